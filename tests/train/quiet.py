"""`twotower` without the noise of members: processes draw noise of their own, and the same run would differ by it.

python -m tests.train.quiet train --data DIR --output RUN
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from twotower.cli import main


def quietly(argv: Sequence[str]) -> int:
    """The exit status of `twotower`, in a process that draws no noise any more."""
    torch.randn_like = torch.zeros_like
    return main(argv)


if __name__ == "__main__":
    sys.exit(quietly(sys.argv[1:]))
