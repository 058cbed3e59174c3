"""The page about redaction: its programs run and print what it says."""

from __future__ import annotations

import logging
import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "redaction.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_redactors_lines_print_what_they_say(capsys):
    exec(compile(PROGRAMS[0], str(PAGE), "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Soy [name], mi móvil es [phone]"
    assert said[1] == "[('name', 4, 13), ('phone', 27, 38)]"


def test_the_logs_lines_redact(caplog):
    handlers = {handler: list(handler.filters) for handler in logging.getLogger().handlers}
    try:
        exec(compile(PROGRAMS[1], str(PAGE), "exec"), {})
        assert [record.getMessage() for record in caplog.records] == ["no answer from [email]"]
    finally:
        for handler, filters in handlers.items():
            handler.filters[:] = filters


def test_the_program_with_a_model_is_sound_python():
    assert compile(PROGRAMS[2], str(PAGE), "exec")
    assert len(PROGRAMS) == 3
