"""`python -m lunchbox`."""

from lunchbox.app import main

main()
