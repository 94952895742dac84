"""`python -m reid` does what `reid` does."""

import gc
import sys

from reid import cli

__all__ = ["main"]


def main() -> int:
    """Run one command; return the exit status, see `cli.main`."""
    status = cli.main()
    gc.freeze()  # or Python looks for unused objects among all that is left once more, which takes half a second
    return status


if __name__ == "__main__":
    sys.exit(main())
