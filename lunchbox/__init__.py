"""LunchBox's front door: the command line, which puts the rooms together.

Heavy rooms are imported by the command that needs them, so that `lunchbox --help` answers at once.
"""
