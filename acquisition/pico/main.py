"""Firmware of the Raspberry Pi Pico that drives servo and laser: MicroPython. Copy it to the board as `main.py`.

One line is one order, both words 0..65535: `<laser> <servo>`. The answer is `OK <laser> <servo>`, with what the pins
have now, or `ERR <why>`; an order that is refused turns the laser off. The laser is dark at boot, on Ctrl-C, when the
program fails, and after `TIMEOUT_MS` without an order; then it stays dark until an order has said 0, so that nobody
takes a light that was interrupted for one that was not.
"""

import select
import sys
import time

from machine import PWM, Pin

LASER_PIN = 15
SERVO_PIN = 16
LASER_HZ = 10_000
SERVO_HZ = 50
# Duty cycles of the servo at 0 and at 180 degrees.
SERVO_LOW = 0.025
SERVO_HIGH = 0.115

#: The IOC repeats its last order every 0.5 s (ioc.refresh_period).
TIMEOUT_MS = 2000
#: How long an answer waits after the servo was turned. 0: the IOC waits by itself (ioc.pico.settle_time).
SETTLE_MS = 0
#: False for a client that does not listen (ioc.pico.acknowledged: false).
ACKNOWLEDGE = True

FULL_SCALE = 65535
_LONGEST_LINE = 32
_POLL_MS = 20


class Firmware:
    """The pins, and what an order makes of them. Times are `time.ticks_ms()`."""

    def __init__(self, now):
        # Before all else: a pin that floats may glow.
        self._laser_pwm = PWM(Pin(LASER_PIN))
        self._laser_pwm.freq(LASER_HZ)
        self.laser = 0
        self.dark()
        # No pulses until an order comes: the servo stays where it is.
        self._servo_pwm = PWM(Pin(SERVO_PIN))
        self._servo_pwm.freq(SERVO_HZ)
        self._servo_pwm.duty_u16(0)
        self.servo = None
        self._last_order = now
        self._latched = False
        self._answer_at = None

    def dark(self):
        self.laser = 0
        self._laser_pwm.duty_u16(0)

    def order(self, line, now):
        """Carry out one line; what is to be answered at once, or None."""
        words = line.split()
        if len(words) != 2 or len(line) > _LONGEST_LINE or not all(word.isdigit() for word in words):
            return self._refuse("two whole numbers: laser servo")
        laser, servo = int(words[0]), int(words[1])
        if not (0 <= laser <= FULL_SCALE and 0 <= servo <= FULL_SCALE):
            return self._refuse("0..65535")
        self._last_order = now
        if laser == 0:
            self._latched = False
        self.laser = 0 if self._latched else laser
        self._laser_pwm.duty_u16(self.laser)
        if servo != self.servo:
            self.servo = servo
            duty = SERVO_LOW + (SERVO_HIGH - SERVO_LOW) * servo / FULL_SCALE
            self._servo_pwm.duty_u16(round(duty * FULL_SCALE))
            if SETTLE_MS:
                self._answer_at = time.ticks_add(now, SETTLE_MS)
        return None if self._answer_at is not None else self._answer()

    def tick(self, now):
        """What time itself does: the laser's time-out, and the answer that waited for the servo."""
        if self.laser and time.ticks_diff(now, self._last_order) >= TIMEOUT_MS:
            self.dark()
            self._latched = True
        if self._answer_at is not None and time.ticks_diff(now, self._answer_at) >= 0:
            self._answer_at = None
            return self._answer()
        return None

    def _answer(self):
        return f"OK {self.laser} {self.servo}\r\n" if ACKNOWLEDGE else None

    def _refuse(self, why):
        self.dark()
        self._answer_at = None
        return f"ERR {why}\r\n" if ACKNOWLEDGE else None


def main():
    firmware = Firmware(time.ticks_ms())
    try:
        poll = select.poll()
        poll.register(sys.stdin, select.POLLIN)
        line = ""
        while True:
            waiting = poll.poll(_POLL_MS)
            answer = firmware.tick(time.ticks_ms())
            if answer:
                sys.stdout.write(answer)
            if not waiting:
                continue
            character = sys.stdin.read(1)
            if character not in ("\r", "\n"):
                # No more of it is kept than `order` needs to refuse it.
                if len(line) <= _LONGEST_LINE:
                    line += character
                continue
            if line.strip():
                answer = firmware.order(line, time.ticks_ms())
                if answer:
                    sys.stdout.write(answer)
            line = ""
    except KeyboardInterrupt:
        pass  # Ctrl-C on the line: somebody wants the prompt, to change this program
    finally:
        firmware.dark()


if __name__ == "__main__":
    main()
