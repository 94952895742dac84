"""TODO errors."""

__all__ = ["InputError", "Stopped"]


class InputError(Exception):
    """The input or the call is wrong, and the person who made it can mend it.

    The message names the place (file, row), what was expected, what was found and what to do. The command line
    prints it as one line `error: ...` and exits with status 2; every other exception is a bug.

    A cell of a hostile file may be quoted in it, and be a hundred pages long: the middle of an endless message is left
    out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message if len(message) <= 2000 else f"{message[:1500]} ... {message[-400:]}")


class Stopped(Exception):  # noqa: N818 - it is no error
    """A signal asked for the end before the work was done; the same command goes on where it was.

    The command line ends with status 75, by which a cluster's job knows that it is to be queued again, or, after
    Ctrl-C, with 130.

    Attributes:
        by: the signal's name; "" where another rank heard it.
    """

    def __init__(self, message: str, by: str) -> None:
        super().__init__(message)
        self.by = by
