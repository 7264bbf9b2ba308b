"""Ctrl-C and SIGTERM end a run between two updates, never in the middle of one."""

import signal
import threading
from types import FrameType
from typing import Self

from semipose.system import processes


class Stop:
    """While active, the first Ctrl-C or SIGTERM only sets `received`; a second one ends the process as usual."""

    def __init__(self) -> None:
        self.received = 0

    def __enter__(self) -> Self:
        self._old = {}
        # Python delivers signals to the main thread alone; elsewhere the caller decides when to stop.
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        # torchrun passes on signals that its processes may have received themselves: a second one is no repeated wish.
        if processes.count() == 1:
            self.__exit__()

    def obey(self, number: int) -> None:
        """Exit as signal `number` requires: KeyboardInterrupt (exit code 130) or SystemExit with 128 + `number`."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
