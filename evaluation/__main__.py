"""`python -m evaluation` is `twotower evaluate`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("evaluate"))
