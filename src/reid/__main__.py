"""`python -m reid` does what `reid` does."""

import sys

from reid.cli import main

if __name__ == "__main__":
    sys.exit(main())
