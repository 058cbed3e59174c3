"""The plan is arithmetic on measured rates, and its page says what the script prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "scale-out.md"
FIGURES = PAGE.parent / "results" / "scale_out.json"


@pytest.fixture
def plan() -> Any:
    """The script that plans."""
    return pytest.importorskip("scale_out_plan")


@pytest.fixture
def found() -> dict[str, Any]:
    """The figures of the page."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return figures


def test_the_page_holds_what_the_script_prints(plan: Any, found: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for line in plan.plan_report(found, 1e9, 2e5, 512, 0.04).splitlines():
        assert line in page, line
    for one in found["rates"]:
        assert f"| {one['part']} | {one['local_per_s']:,.0f} | {one['ray_per_s']:,.0f} | {one['ratio']:.2f} |" in page


def test_twice_the_hand_overs_are_twice_the_hours_and_bytes(plan: Any, found: dict[str, Any]) -> None:
    for one, two in zip(plan.lines_of(found, 1e6, 100), plan.lines_of(found, 2e6, 100), strict=True):
        factor = 1 if one.part == "CSA vectors" else 2
        assert two.core_hours() == pytest.approx(factor * one.core_hours())
    rate = {one["part"]: one["local_per_s"] for one in found["rates"]}
    [texts, *_] = plan.lines_of(found, 3.6e6, 100)
    assert texts.core_hours() == pytest.approx(1000 / rate["texts embedded"])
    sizes = [{name: size for name, size, _ in plan.bytes_of(found, 1e6, csas)} for csas in (100, 200)]
    assert sizes[1]["state of all CSAs"] == 2 * sizes[0]["state of all CSAs"]
    assert sizes[1]["tables, Parquet"] == sizes[0]["tables, Parquet"] == 1e6 * found["bytes"]["tables_per_handover"]


def test_features_of_too_many_csas_leave_no_room(plan: Any, found: dict[str, Any]) -> None:
    assert plan.fits(found, 1e9) == 0
    assert plan.fits(found, 1e4) > plan.fits(found, 1e5) > 0
