"""`python -m twotower` does what the console script does."""

import sys

from twotower.cli import main

if __name__ == "__main__":
    sys.exit(main())
