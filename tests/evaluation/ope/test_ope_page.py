"""docs/ope.md says what the program does: its commands parse, its code runs, its thresholds are the program's."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from evaluation.ope.estimators import NAMES
from evaluation.ope.logged import METRICS
from evaluation.ope.overlap import Gates, Z
from evaluation.ope.verb import VERB

PAGE = (Path(__file__).parents[3] / "docs" / "ope.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_commands_parse() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    VERB.configure(parser)
    parser.add_argument("--json", action="store_true")
    lines = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 4
    for words in lines:
        assert words[:2] == ["twotower", "ope"]
        parser.parse_args(words[2:])


def test_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks("python")
    exec(compile(code, "docs/ope.md", "exec"), {})
    value = float(capsys.readouterr().out.split()[0])
    # q̂(x, π) + w (r − q̂(x, a)), by hand.
    assert value == pytest.approx(((0.6 + 2 * 0.4) + 0.7 + (0.7 + 4 * 0.3) + (0.6 + 0.4)) / 4)


def test_every_gate_is_told_with_its_threshold() -> None:
    told = {
        "least_rounds": "fewer than 100 rewards", "least_effective": "is below 100", "least_clusters": "fewer than 30",
        "most_weight": "over 5 %", "mean_weight": "off 1 by over 0.05", "most_unsupported": "over 2 %",
        "least_propensity": "π₀ < 0.0001", "most_outside": "over 1 %", "most_miscalibrated": "over 15 %",
        "most_imbalance": "over 0.1 deviations",
    }  # fmt: skip
    expected = Gates(100, 100, 30, 0.05, 0.05, 0.02, 1e-4, 0.01, 0.15, 0.1)
    assert Gates() == expected
    assert set(told) == set(vars(expected))
    for name, words in told.items():
        [line] = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{name}`" in line]
        assert words in line, name
    assert f"{Z} standard errors" in PAGE


@pytest.mark.parametrize("name", [*NAMES, *METRICS, "uniform", "scores"])
def test_everything_that_can_be_asked_for_is_told(name: str) -> None:
    assert f"`{name}`" in PAGE
