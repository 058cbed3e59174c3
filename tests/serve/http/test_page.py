"""What docs/serving.md tells its reader to type does what it says."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from tests.serve.http.server import ROOT, Served
from twotower.cli import run_verb

PAGE = ROOT / "docs" / "serving.md"
VERBS = {
    "tokens": EntryPoint("tokens", "serve.http.tokens_verb:VERB", "twotower.verbs"),
    "index": EntryPoint("index", "serve.rebuild_verb:VERB", "twotower.verbs"),
}


def lines() -> list[list[str]]:
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    return [words for line in text.replace("\\\n", " ").splitlines() if (words := shlex.split(line))]


@pytest.fixture
def place(bundle_folder: Path, data: Path, tmp_path: Path) -> Path:
    """A folder with what the page supposes."""
    (tmp_path / "bundles").mkdir()
    shutil.copytree(bundle_folder, tmp_path / "bundles" / "first")
    shutil.copytree(data, tmp_path / "my-tables")
    return tmp_path


def test_the_lines_of_the_page_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = []
    for words in [words for words in lines() if words[:2] == ["twotower", "tokens"]]:
        with contextlib.chdir(place):
            assert run_verb("tokens", words[2:], VERBS["tokens"]) == 0
        tokens.append(capsys.readouterr().out.strip())
    first, second = [words for words in lines() if words[:2] == ["twotower", "serve"]]
    roster, match = [words for words in lines() if words[0] == "curl"]
    with Served(place / first[2], place / "log", *absolute(first[3:], place), token=tokens[0]) as served:
        assert send(served, roster, tokens[1])["version"] == 1
        found = send(served, match, tokens[0])
        assert (found["fallback"], len(found["candidates"])) == (None, 5)
    hurried = ("--budget-ms", "0.000001")  # within which no stage is begun
    with Served(place / first[2], place / "log", *absolute(first[3:], place), *hurried, token=tokens[0]) as served:
        found = send(served, match, tokens[0])
        assert (found["fallback"], [one["csa_id"] for one in found["candidates"]]) == ("no_time", ["ada", "bob"])
    (place / "bundles" / "served").symlink_to("first")
    [rebuild] = [words for words in lines() if words[:2] == ["twotower", "index"]]
    served = Served(place / second[2], place / "log", *absolute(second[3:], place), token=tokens[0])
    with served, contextlib.chdir(place):
        assert run_verb("index", rebuild[2:], VERBS["index"]) == 0
    assert (place / "bundles" / "second" / "manifest.json").is_file()


def send(served: Served, curl: list[str], token: str) -> dict[str, Any]:
    """The answer to a request of the page."""
    served.token = token
    status, found = served.post(re.sub(r"^http://[^/]*", "", curl[2]), json.loads(curl[curl.index("-d") + 1]))
    assert status == 200, found
    return dict(found)


def absolute(words: list[str], place: Path) -> list[str]:
    """Options of the page with files of a folder."""
    found = [word.replace("sqlite:///", f"sqlite:///{place}/") for word in words]
    return [str(place / word) if word.endswith((".json", ".journal")) else word for word in found]
