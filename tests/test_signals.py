"""A signal waits where work is held together, and ends the run elsewhere."""

import os
import signal

import pytest

from reid import InputError, Stopped
from reid.signals import listening


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_ends_the_run_where_nothing_is_held(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"stopped by {number.name}"), listening():
        os.kill(os.getpid(), number)
        signal.pause()  # until it has come
    assert signal.getsignal(number) is before


def test_a_signal_waits_until_the_end_of_what_is_held() -> None:
    done = []
    with pytest.raises(Stopped), listening() as stop, stop.held():
        signal.raise_signal(signal.SIGUSR1)
        assert stop.asked == "SIGUSR1"
        done.append("the step")
    assert done == ["the step"]


def test_a_second_ctrl_c_waits_for_nothing() -> None:
    with pytest.raises(KeyboardInterrupt), listening() as stop, stop.held():
        signal.raise_signal(signal.SIGINT)
        assert stop.asked == "SIGINT"
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it was waited for")


def test_what_a_worker_dies_of_counts_as_the_signal_and_what_went_wrong_is_told() -> None:
    with pytest.raises(Stopped), listening() as stop:
        stop.asked = "SIGTERM"
        raise RuntimeError("DataLoader worker is killed by signal: Terminated")
    with pytest.raises(Stopped, match=r"stopped by SIGTERM, meanwhile: .*the disk is full"), listening() as stop:
        stop.asked = "SIGTERM"
        raise InputError("the disk is full")
    with pytest.raises(RuntimeError), listening():
        raise RuntimeError("a fault of its own")
