"""`twotower` without the noise of members: processes draw noise of their own, and the same run would differ by it.

python -m tests.train.quiet train --data DIR --output RUN
"""

from __future__ import annotations

import sys

import torch

from twotower.cli import main

torch.randn_like = torch.zeros_like

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
