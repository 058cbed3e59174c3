"""`python -m export`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("export"))
