"""`python -m train` is `twotower train`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("train"))
