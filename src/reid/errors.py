"""What ends a command before its time: wrong input, a machine that fails, a signal."""

__all__ = ["InputError", "MachineError", "Stopped"]


class InputError(Exception):
    """The input or the call is wrong, and the person who made it can fix it.

    The message names the place (file, row), what was expected, what was found and what to do. The command line prints
    it as one line `error: ...` and exits with status 2.

    A message may quote a cell of a hostile file that is a hundred pages long: the middle of so long a message is left
    out.

    Attributes:
        hint: what to do, where that is a sentence of its own; the command line prints it as a line `hint: ...`.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if len(message) <= 2000 else f"{message[:1500]} ... {message[-400:]}")
        self.hint = hint


class MachineError(InputError):
    """The machine failed, for example because its disk is full, and no other input would help; exit status 1.

    It is an `InputError` so that code that works as well without a file catches both.
    """


class Stopped(Exception):  # noqa: N818 - it is no error
    """A signal stopped the work before its end; the same command resumes it.

    The command line exits with status 75, by which a cluster's job knows that it must be queued again, or, after
    Ctrl-C, with 130.

    Attributes:
        by: the signal's name; "" where another rank received it.
    """

    def __init__(self, message: str, by: str) -> None:
        super().__init__(message)
        self.by = by
