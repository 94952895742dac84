"""A signal waits where it is deferred, and ends the run elsewhere."""

import os
import signal

import pytest

from reid.errors import InputError, Stopped
from reid.runtime.signals import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_the_run_where_nothing_is_deferred(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"stopped by {number.name}"), stop_on_signals():
        os.kill(os.getpid(), number)
        signal.pause()  # until it has come
    assert signal.getsignal(number) is before


def test_a_deferred_signal_waits_until_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(Stopped), stop_on_signals() as stop, stop.defer():
        signal.raise_signal(signal.SIGUSR1)
        assert stop.requested == "SIGUSR1"
        done.append("the step")
    assert done == ["the step"]


def test_a_second_ctrl_c_waits_for_nothing() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop, stop.defer():
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == "SIGINT"
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the signal was deferred")


def test_what_fails_after_a_signal_counts_as_the_signal_and_is_told() -> None:
    with pytest.raises(Stopped), stop_on_signals() as stop:
        stop.requested = "SIGTERM"
        raise RuntimeError("Connection closed by peer")
    with pytest.raises(Stopped, match=r"stopped by SIGTERM, meanwhile: .*the disk is full"), stop_on_signals() as stop:
        stop.requested = "SIGTERM"
        raise InputError("the disk is full")
    with pytest.raises(RuntimeError), stop_on_signals():
        raise RuntimeError("a fault of its own")
