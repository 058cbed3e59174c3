"""`python -m twotower.towers` is `twotower encoder`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("encoder"))
