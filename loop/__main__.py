"""`python -m loop` is `twotower demo`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("demo"))
