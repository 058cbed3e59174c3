"""`python -m twotower.features` is `twotower features`."""

import sys

from twotower.cli import run_verb

sys.exit(run_verb("features"))
