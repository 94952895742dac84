"""Signals that ask a run to end: SIGTERM, before a machine is taken away, SIGUSR1, before a job's time is over, and
SIGINT, which Ctrl-C sends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from reid.errors import Stopped

__all__ = ["StopRequest", "stop_on_signals"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
"""Windows has no SIGUSR1."""


@dataclass
class StopRequest:
    """Whether a signal asked for the end.

    Attributes:
        requested: the signal's name, "" until one comes.
        is_deferred: inside `defer`.
    """

    requested: str = ""
    is_deferred: bool = False

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Inside, a signal waits until somebody reads `requested`, or for the end of the block; elsewhere it ends the
        run where it is.

        Raises:
            Stopped: a signal came, and the block ended well.
        """
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False
        self.raise_if_requested()

    def raise_if_requested(self) -> None:
        """Raise `Stopped` if a signal came."""
        if self.requested:
            raise Stopped(f"stopped by {self.requested}", self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:  # a second Ctrl-C waits for nothing
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
        if not self.is_deferred:
            self.raise_if_requested()


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Handle the signals inside the block."""
    stop = StopRequest()
    before = {number: signal.signal(number, stop._handle) for number in SIGNALS}
    try:
        yield stop
    except Stopped:
        raise
    except Exception as problem:  # another rank that got the signal first makes this one fail; so may a full disk
        if stop.requested:
            raise Stopped(f"stopped by {stop.requested}, meanwhile: {problem}", stop.requested) from problem
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
