"""`twotower drift`: text, JSON, page, gauges, exit status, and one line for what cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from loop.drift.catalogue import GROUPS, KINDS
from loop.drift.html import html_report
from loop.drift.prometheus import gauges, write_gauges
from loop.drift.report import text_report
from loop.drift.run import Drift, drift
from loop.drift.windows import Windows
from tests.support import Tables
from twotower.cli import GROUP, run_verb
from twotower.clock import DAY, format_time
from twotower.errors import ConfigError
from twotower.tables.log import Log


def call(*argv: object) -> int:
    return run_verb("drift", [str(one) for one in argv], EntryPoint("drift", "loop.drift.verb:VERB", GROUP))


@pytest.fixture(scope="module")
def collapsed(spoil: Any, drift_log: Log) -> Drift:
    log = spoil.collapse(drift_log, spoil.newest(drift_log), np.random.default_rng(0))
    return drift(log)


def test_the_report_of_a_calm_week(drift_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, metrics = tmp_path / "out", tmp_path / "drift.prom"
    assert call("--data", drift_data, "--output", out, "--metrics", metrics) == 0
    said = capsys.readouterr().out
    assert "ALARM" not in said
    assert "the chance of any alarm is 5% at most" in said
    assert "against 10 windows of 7 days before" in said
    for title in GROUPS.values():
        assert title in said
    assert sorted(one.name for one in out.iterdir()) == ["drift.json", "report.html"]
    written = json.loads((out / "drift.json").read_text(encoding="utf-8"))
    assert {one["name"] for one in written["findings"]} == set(KINDS)
    assert metrics.read_text() == gauges(drift(drift_data))
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_json_is_what_a_retraining_step_keeps(drift_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--data", drift_data, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(drift(drift_data).as_json()))


def test_an_alarm_is_exit_status_one(
    spoil: Any, drift_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for file in drift_data.glob("*.parquet"):
        (folder / file.name).symlink_to(file)
    table = pq.read_table(drift_data / "contacts.parquet")
    last = table["arrived_at"].cast("int64").to_numpy()
    intents = np.array(table["intent"].to_pylist(), dtype=object)
    intents[(last >= last.max() - 7 * DAY) & (np.arange(len(last)) % 10 == 0)] = "<b>new</b>"
    (folder / "contacts.parquet").unlink()
    pq.write_table(table.set_column(table.column_names.index("intent"), "intent", [intents.tolist()]), folder / "contacts.parquet")  # fmt: skip # noqa: E501
    assert call("--data", folder, "--output", tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert "ALARM input.new_intents" in said
    assert "<b>new</b>" in said
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<b>new</b>" not in page
    assert "&lt;b&gt;new&lt;/b&gt;" in page


def test_the_page_needs_nothing_beside_it(collapsed: Drift) -> None:
    page = html_report(collapsed)
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("<svg") == 1 + sum(
        any(np.isfinite(one.values).any() for one in collapsed.findings if one.group == group) for group in GROUPS
    )
    for one in collapsed.findings:
        assert one.title in page.replace("&#x27;", "'")
    assert "values by window" in page


def test_the_text_says_first_what_is_to_be_done(collapsed: Drift) -> None:
    lines = text_report(collapsed).splitlines()
    first = next(line for line in lines if line.startswith("ALARM"))
    assert lines.index(first) < 5
    assert "see whether the policy has collapsed" in text_report(collapsed)
    assert f"{sum(one.p is not None for one in collapsed.findings)} statistics were judged together" in "\n".join(lines)


def test_a_week_without_findings_says_so(collapsed: Drift) -> None:
    calm = replace(collapsed, findings=tuple(replace(one, status="ok") for one in collapsed.findings))
    assert calm.ok
    assert "Nothing has drifted more than it does from window to window." in text_report(calm)
    assert not collapsed.ok
    assert "Nothing has drifted" not in text_report(collapsed)


def test_gauges_are_read_by_prometheus(collapsed: Drift, tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    write_gauges(collapsed, tmp_path / "drift.prom")
    found = {}
    for family in parser.text_string_to_metric_families((tmp_path / "drift.prom").read_text()):
        assert family.type == "gauge"
        for sample in family.samples:
            found[sample.name, sample.labels.get("statistic")] = sample.value
    one = collapsed.finding("feedback.effective_csas")
    assert found["twotower_drift", "feedback.effective_csas"] == one.value
    assert found["twotower_drift_alarm", "feedback.effective_csas"] == 1
    assert found["twotower_drift_alarm", "input.volume"] == 0
    assert found["twotower_drift_unknown", "calibration.gap"] == 1
    assert ("twotower_drift", "calibration.gap") not in found
    assert found["twotower_drift_alarms", None] == len(collapsed.alarms)
    assert found["twotower_drift_window_end_seconds", None] == collapsed.stop / 1e6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--window-days", "0"), "--window-days 0: a window has at least one day"),
        (("--window-days", "30"), "2 windows of 30 days; the newest is compared with at least 4 before it"),
        (("--rate", "0.7"), "--rate 0.7: the chance of a false alarm is more than 0 and less than 0.5"),
        (("--from", "yesterday"), "--from: 'yesterday' is no time"),
        (("--to", "2027-06-01T00:00:00Z"), "no contact arrived in the 7 days before it"),
        (("--to", "2020-06-01T00:00:00Z"), "0 windows of 7 days"),
        (("--from", "2026-06-30T00:00:00Z", "--to", "2026-06-01T00:00:00Z"), "is not before --to"),
        (("--bundle", "no-such-bundle"), "no-such-bundle: no such folder"),
        (("--expect-digest", "a" * 64), "is for --bundle BUNDLE, which is not given"),
        (("--seed", "-1"), "--seed -1: must not be negative"),
        (("--output", "/tmp"), "exists already"),
    ],
)
def test_what_cannot_be_is_one_line(
    drift_data: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert call("--data", drift_data, *options) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert said in shown.err


def test_no_data_is_one_line(tmp_path: Path, save: Any, tables: Tables, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--data", tmp_path / "nowhere") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert call("--data", save(tables)) == 1
    assert "0 windows of 7 days" in capsys.readouterr().err


def test_windows_are_laid_back_from_the_end(drift_log: Log) -> None:
    arrived = drift_log.contacts.arrived_at
    windows = Windows.of(drift_log, 7)
    assert windows.edges[-1] == arrived[-1] + 1
    assert (np.diff(windows.edges) == 7 * DAY).all()
    assert windows.edges[0] >= arrived[0] > windows.edges[0] - 7 * DAY
    sizes = [windows.contacts(w).stop - windows.contacts(w).start for w in range(len(windows))]
    assert sum(sizes) == (arrived >= windows.edges[0]).sum()
    assert sizes == np.bincount(windows.contact_window()[windows.contact_window() >= 0]).tolist()
    with pytest.raises(ConfigError, match="at least 4 before it"):
        Windows.of(drift_log, 7, start=int(arrived[-1]) - 28 * DAY)


def test_nothing_after_the_end_is_read(spoil: Any, drift_log: Log) -> None:
    """Whatever becomes known at the end of the newest window or later changes no figure."""
    stop = int(drift_log.contacts.arrived_at[-1]) - 10 * DAY
    moves = drift_log.handovers
    later = moves.known_at >= stop
    other = spoil._handovers(
        drift_log,
        resolved=np.where(later, 1 - np.clip(moves.resolved, 0, 1), moves.resolved).astype(np.int8),
        csat=np.where(later, np.float32(1), moves.csat),
    )
    assert later.sum() > 100
    assert drift(other, stop=stop).as_json() == drift(drift_log, stop=stop).as_json()
    assert drift(drift_log, stop=stop).as_json()["to"] == format_time(stop)
