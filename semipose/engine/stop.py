"""Ctrl-C and SIGTERM end a run between two updates, never in the middle of one."""

import signal
import threading
from types import FrameType
from typing import Self


class Stop:
    """While active, the first Ctrl-C or SIGTERM only sets `asked`; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.asked = 0

    def __enter__(self) -> Self:
        self._old = {}
        # Python delivers signals to the main thread alone; elsewhere the caller decides when to stop.
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number

    def obey(self) -> None:
        """Leave as the signal asked: KeyboardInterrupt (exit code 130) or SystemExit with 128 + its number."""
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.asked)
