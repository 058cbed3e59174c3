"""`python -m serve`: the verb `match`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("match"))
