"""A stop that is asked for while somebody steps: it waits for nobody, and whoever steps finds it.

Notable: who asks writes the file first and sets the link then; who steps sets the link first and looks for the file
then. So whichever comes last, the link is the champion's.
"""

from __future__ import annotations

from pathlib import Path

from twotower.files import atomic_write

ASKED = "stop.txt"


def ask(work: Path, why: str) -> None:
    """From now on nobody sets the link to the challenger. Raises OSError."""
    work.mkdir(parents=True, exist_ok=True)
    atomic_write(work / ASKED, why)


def asked(work: Path) -> str | None:
    """Why a stop is asked for; None: it is not."""
    try:
        return (work / ASKED).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def answered(work: Path) -> None:
    """It is done, or a new rollout begins."""
    (work / ASKED).unlink(missing_ok=True)
