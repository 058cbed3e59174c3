"""Progress shows on a terminal and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest

from twotower.progress import bar, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_items_pass_through_and_only_a_terminal_sees_the_bar(monkeypatch, stream):
    stderr = stream()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert list(track([1, 2, 3], "counting")) == [1, 2, 3]
    with bar("writing", total=10, unit="rows") as advance:
        advance(10)
    assert ("counting" in stderr.getvalue()) is stderr.isatty()
    assert ("writing" in stderr.getvalue()) is stderr.isatty()
