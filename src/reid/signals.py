"""Signals that ask a run to end: SIGTERM, before a machine is taken away, SIGUSR1, before a job's time is over, and
SIGINT, which Ctrl-C sends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from reid import Stopped

__all__ = ["Stop", "listening"]

ASKING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@dataclass
class Stop:
    """Whether somebody asked for the end.

    Attributes:
        asked: the signal's name, "" until one comes.
        is_held: inside `held`.
    """

    asked: str = ""
    is_held: bool = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, a signal waits until somebody looks at `asked`, or for the end of the block; elsewhere it ends the
        run where it is.

        Raises:
            Stopped: a signal came, and the block ended well.
        """
        self.is_held = True
        try:
            yield
        finally:
            self.is_held = False
        self.heed()

    def heed(self) -> None:
        """Raises `Stopped` if a signal came."""
        if self.asked:
            raise Stopped(f"stopped by {self.asked}", self.asked)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:  # a second Ctrl-C waits for nothing
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
        if not self.is_held:
            self.heed()


@contextmanager
def listening() -> Iterator[Stop]:
    """Hears the signals inside the block."""
    stop = Stop()
    before = {number: signal.signal(number, stop._hear) for number in ASKING}
    try:
        yield stop
    except Stopped:
        raise
    except Exception as problem:  # worker processes that heard the signal first die of it; but a disk may be full too
        if stop.asked:
            raise Stopped(f"stopped by {stop.asked}, meanwhile: {problem}", stop.asked) from problem
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
