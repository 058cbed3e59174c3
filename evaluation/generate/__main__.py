"""`python -m evaluation.generate` is `twotower generate`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("generate"))
