"""The lines of docs/feedback.md run as they stand."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from serve.matcher import Matcher
from serve.store.export import export
from serve.store.store import existing
from tests.serve.store import day
from twotower.tables.check import check

PAGE = Path(__file__).parents[3] / "docs" / "feedback.md"


def test_the_lines_of_the_page_run(matcher: Matcher, tmp_path: Path, capsys) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    with contextlib.chdir(tmp_path):
        exec(compile(code, str(PAGE), "exec"), {"matcher": matcher})
    assert "'away': False" in capsys.readouterr().out
    with existing(f"sqlite:///{tmp_path / 'feedback.db'}") as engine:
        done = export(engine, tmp_path / "out")
    assert (done.contacts, done.interactions, done.decisions) == (1, 1, 1)
    assert check(tmp_path / "out")[0].counts == {}
    [row] = day.read(tmp_path / "out", "interactions")
    assert (row["resolved"], row["policy"]) == (True, "best")
    assert day.read(tmp_path / "out", "contacts")[0]["intent_text"] == "My card was charged twice"
