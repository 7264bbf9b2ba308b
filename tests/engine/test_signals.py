"""The first signal waits for the end of an update, the second does not."""

import os
import signal
from collections.abc import Iterator

import pytest

from semipose.engine.signals import Stop


@pytest.fixture(autouse=True)
def interrupts_as_in_a_terminal() -> Iterator[None]:
    """A shell that starts the tests in the background has them ignore interrupts."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_ends_the_process_as_ever(first: signal.Signals) -> None:
    usual = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        os.kill(os.getpid(), first)
        assert stop.received == first
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == usual
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == usual


def test_the_exit_codes_are_the_shell_s() -> None:
    with pytest.raises(KeyboardInterrupt):
        Stop().obey(signal.SIGINT)
    with pytest.raises(SystemExit) as stopped:
        Stop().obey(signal.SIGTERM)
    assert stopped.value.code == 143
