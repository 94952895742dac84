"""`python -m reid` does what `reid` does."""

import gc
import sys

from reid import cli

__all__ = ["main"]


def main() -> int:
    """Run one command and return the exit status, see `cli.main`, in a process that ends then: what is alive is never
    collected any more."""
    status = cli.main()
    gc.freeze()  # or Python looks for unused objects once more at its exit: with torch loaded, half a second
    return status


if __name__ == "__main__":
    sys.exit(main())
