"""What docs/sets.md shows runs, and comes to what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "sets.md"


def test_the_lines_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    said = capsys.readouterr().out
    assert said.startswith("[1 0] 1.65 ")
    assert said.rstrip().endswith("[[0 0]] inf")
