"""Ctrl-C and SIGTERM end a run between two updates, never in the middle of one."""

import signal
import threading
from types import FrameType
from typing import Self

from semipose.system import processes


class Stop:
    """While active, the first Ctrl-C or SIGTERM only sets `asked`; a second one ends the process as it usually does."""

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
        self.asked = number
        # torchrun passes on signals that its processes may have heard themselves: there a second one is no haste.
        if processes.count() == 1:
            self.__exit__()

    def obey(self, asked: int) -> None:
        """Leave as signal `asked` wants: KeyboardInterrupt (exit code 130) or SystemExit with 128 + its number."""
        if asked == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + asked)
