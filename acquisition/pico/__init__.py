"""What runs on the Raspberry Pi Pico: `main.py`, MicroPython. Nothing else here imports it."""
