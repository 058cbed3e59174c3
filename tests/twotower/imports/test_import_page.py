"""What docs/import.md shows is what the program takes and does."""

from __future__ import annotations

from pathlib import Path

import pytest

from twotower.imports.mapping import ImportMap, read_map

PAGE = (Path(__file__).parents[3] / "docs" / "import.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return [part.partition("```")[0] for part in PAGE.split(f"```{language}\n")[1:]]


@pytest.mark.parametrize("block", blocks("yaml"), ids=["connect", "zendesk", "csv"])
def test_the_maps_are_maps(tmp_path: Path, block: str) -> None:
    (tmp_path / "mapping.yaml").write_text(block)
    assert isinstance(read_map(tmp_path / "mapping.yaml"), ImportMap)


def test_the_lines_about_customers_run(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("python")
    exec(compile(code, "import.md", "exec"), {})
    assert capsys.readouterr().out == "True\n"
