"""`twotower ope` from tables to reports: answers near the truth, refusals without a number, bad input in one line."""

from __future__ import annotations

import json
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from evaluation.ope.estimators import NAMES, TITLES
from serve.answer import Candidate
from serve.explore import Explorer
from serve.explore_options import Exploration
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from tests.evaluation.ope import worlds
from tests.evaluation.ope.called import WINDOW, answer, ope
from twotower.cli import GROUP, Report, run_verb
from twotower.errors import ConfigError
from twotower.tables.log import Log


@pytest.fixture(scope="module")
def answered(ope_data: Path, ope_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """A bundle and anyone eligible, by two metrics."""
    folder = tmp_path_factory.mktemp("answered") / "report"
    metrics = ("--metric", "resolved", "--metric", "handle_time_s")
    return ope(
        "--data", ope_data, "--policy", ope_bundle, "--policy", "uniform", *metrics, "--draws", 100, "--output", folder
    ), folder


def test_the_window_begins_where_the_bundle_ends(answered: tuple[Report, Path]) -> None:
    report, _ = answered
    assert report.data["from"] == worlds.FROM
    assert report.data["to"].startswith("2026-01-30T")
    assert report.data["source"] == "logged"
    assert report.ok


def test_anyone_eligible_is_worth_what_they_are_worth(answered: tuple[Report, Path]) -> None:
    """Who is good at a topic is one of four that are listed of ten, so 0.4 + 0.4 · P(good)."""
    report, _ = answered
    found = answer(report, "uniform")["estimates"]["dr"]
    text_share = (2 * 4 + 1 * 2) / 10 / 6  # of the ten CSAs four topics have two, two have one
    assert found["asymptotic"][0] < worlds.ELSE + 0.4 * text_share < found["asymptotic"][1]
    assert report.data["logging"]["resolved"]["asymptotic"][0] < found["value"]


def test_every_estimator_stands_beside_the_one_asked_for(answered: tuple[Report, Path]) -> None:
    report, _ = answered
    for policy in ("bundle", "uniform"):
        found = answer(report, policy)
        assert set(found["estimates"]) == set(NAMES)
        assert found["less_logged"]["dr"]["value"] == pytest.approx(
            found["estimates"]["dr"]["value"] - report.data["logging"]["resolved"]["value"]
        )
        assert found["sensitivity"] is None  # propensities are logged
    assert answer(report, "bundle")["less_first"] is None
    first, second = (answer(report, one)["estimates"]["dr"]["value"] for one in ("bundle", "uniform"))
    assert answer(report, "uniform")["less_first"]["value"] == pytest.approx(second - first)


def test_the_judge_is_said_to_be_no_policy(answered: tuple[Report, Path]) -> None:
    report, folder = answered
    for text in (report.text, (folder / "report.html").read_text(encoding="utf-8")):
        assert "the judge is not a policy" in text
        assert "no policy's own model" in text.replace("&#x27;", "'")


def test_the_report_needs_nothing_beside_it(answered: tuple[Report, Path]) -> None:
    report, folder = answered
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 5
    assert "<img" not in page
    assert "<script" not in page
    for word in (
        "Weights",
        "Balance",
        "Chances of those who were not chosen",
        "effective sample size",
        "refused beyond",
    ):
        assert word in page
    written = json.loads((folder / "ope.json").read_text(encoding="utf-8"))
    assert written["answers"] == report.data["answers"]
    assert report.data["output"] == str(folder)
    assert sorted(one.name for one in folder.iterdir()) == ["ope.json", "report.html"]


def test_logged_propensities_are_not_said_to_be_estimated(answered: tuple[Report, Path]) -> None:
    report, folder = answered
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert report.data["queue"] is not None  # for MIPS, as the log tells the chance of the chosen alone
    for text in (report.text, page):
        assert "propensities logged" in text
        assert "propensities: estimated" not in text
        assert (
            "chances of those who were not chosen (for MIPS alone; the propensities of the chosen are logged)" in text
        )
    assert "Propensities of the queue" not in page


def test_the_same_seed_gives_the_same_bytes(ope_data: Path, tmp_path: Path) -> None:
    words = ("--data", ope_data, "--policy", "uniform", "--from", worlds.FROM, "--draws", 20)
    for name in ("one", "two"):
        ope(*words, "--output", tmp_path / name)
    for name in ("report.html", "ope.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    other = ope(*words, "--seed", 5)
    assert other.data["answers"] != json.loads((tmp_path / "one" / "ope.json").read_text())["answers"]


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same centre, whose queue wrote no propensities down."""
    return worlds.write(worlds.tables(propensity=False), tmp_path_factory.mktemp("legacy") / "data")


def test_a_legacy_queue_is_estimated(legacy: Path, answered: tuple[Report, Path], tmp_path: Path) -> None:
    report = ope("--data", legacy, "--policy", "uniform", *WINDOW, "--output", tmp_path / "report")
    assert report.data["source"] == "estimated"
    found = answer(report, "uniform")
    known = answer(answered[0], "uniform")["estimates"]["dr"]
    assert found["estimates"]["dr"]["value"] == pytest.approx(known["value"], abs=2 * known["error"])
    bounds = found["sensitivity"]["bounds"]
    assert bounds[0]["low"] == pytest.approx(found["less_logged"]["dr"]["value"], abs=0.01)
    assert bounds[-1]["low"] < 0 < bounds[-1]["high"]
    assert report.data["queue"]["error"] < 0.15
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Sensitivity to what was not observed" in page
    assert "Sensitivity of uniform, resolved" in report.text
    assert "propensities are estimated: what the queue knew" in report.text


@pytest.mark.parametrize(
    ("estimator", "of"),
    [("dr", None), ("switch-dr", "DR"), ("dm", "DR"), ("snips", None), ("ips", "SNIPS")],
)
def test_the_sensitivity_curve_says_whose_bounds_it_is(legacy: Path, estimator: str, of: str | None) -> None:
    report = ope("--data", legacy, "--policy", "uniform", "--estimator", estimator, "--from", worlds.FROM, "--draws", 0)
    [line] = [one for one in report.text.splitlines() if one.startswith("Sensitivity of")]
    curve = answer(report, "uniform")["sensitivity"]
    assert curve["estimator"] == ("snips" if estimator in ("ips", "snips") else "dr")
    assert ("(bounds of " in line) == (of is not None)
    if of is not None:
        assert f"(bounds of {of}: {TITLES[estimator]} has none of its own)" in line


def test_rounds_that_were_offered_to_strangers_are_said(tmp_path: Path) -> None:
    content = worlds.tables()
    table = worlds.decided(content)
    lists = table["candidates"].to_pylist()
    for i in range(0, len(lists), 2):
        lists[i] = [{**one, "propensity": 0.99 * one["propensity"]} for one in lists[i]]
        lists[i].append({**lists[i][0], "csa_id": "csa-unknown", "propensity": 0.01})
    column = [p if i % 2 else 0.99 * p for i, p in enumerate(table["propensity"].to_pylist())]
    decided = worlds.decided(content, candidates=lists, propensity=column)
    report = ope("--data", worlds.write(content, tmp_path / "d", decided), "--policy", "uniform", *WINDOW)
    count = report.data["left_out"]["unknown"]
    assert 0 < count < 1200
    said = [line for line in report.data["notes"] if "csas.parquet does not hold" in line]
    assert [line.split()[0] for line in said] == [f"{count:,}"]


def test_decisions_tell_support_exactly(tmp_path: Path) -> None:
    content = worlds.tables()
    report = ope("--data", worlds.write(content, tmp_path / "d", worlds.decided(content)), "--policy", "scores",
                 "--policy", "uniform", *WINDOW)  # fmt: skip
    assert report.ok
    assert answer(report, "scores")["overlap"]["unsupported"] == 0
    assert report.data["queue"] is None  # nothing had to be estimated
    assert "needs a bundle" in answer(report, "scores")["withheld"]["mips"]


def test_a_router_is_worth_what_it_got(ope_bundle: Path, tmp_path: Path) -> None:
    """Decisions of an explorer over a bundle, judged by the same bundle and options: every weight is 1. Outcomes become
    known after the window, so that who was chosen changes nothing of what the bundle knows."""
    content = worlds.tables(800)
    late = [
        max(one, worlds.fakes.START + timedelta(days=40)) for one in content["interactions"]["known_at"].to_pylist()
    ]
    content = worlds.with_column(content, "interactions", "known_at", pa.array(late, pa.timestamp("us", "UTC")))
    log = Log.load(worlds.write(content, tmp_path / "before"))
    rolling, ids = RollingMatcher(Matcher.load(ope_bundle), log), log.csas.ids.to_pylist()
    explorer = Explorer(Exploration("uniform", share=0.6, uniform=0.2, most_loss=0.5), b"sixteen bytes or")
    position = {name: i for i, name in enumerate(log.contacts.ids.to_pylist())}
    table = worlds.decided(content)
    rows = [row for row in table.to_pylist() if row["decided_at"] >= worlds.fakes.START + timedelta(days=20)]
    for row in rows:
        codes = np.array(sorted(ids.index(name) for name in row["eligible"]))
        contact = rolling.contacts(np.array([position[row["contact_id"]]]))
        offers = ranked_offers(rolling, contact, codes, ids)
        decision = explorer.choose(row["contact_id"], offers, urgent=False)
        row["candidates"] = [
            {"csa_id": one.csa_id, "score": one.score, "p_resolved": one.p_resolved, "propensity": p}
            for one, p in zip(offers, decision.propensities, strict=True)
        ]
        row["chosen"], row["propensity"] = decision.csa_id, decision.propensity
    chosen = {row["contact_id"]: row for row in rows}
    moves = content["interactions"].to_pylist()
    for name, key in (("csa_id", "chosen"), ("propensity", "propensity")):
        values = [chosen.get(one["contact_id"], {key: one[name]})[key] for one in moves]
        content = worlds.with_column(content, "interactions", name, values)
    data = worlds.write(content, tmp_path / "after", pa.Table.from_pylist(rows, table.schema))
    (tmp_path / "exploration.yaml").write_text("{policy: uniform, share: 0.6, uniform: 0.2, most_loss: 0.5}\n")
    report = ope(
        "--data", data, "--policy", ope_bundle, "--explore", tmp_path / "exploration.yaml", "--policy", "scores",
        "--estimator", "ips", "--draws", 0, "--from", worlds.FROM,
    )  # fmt: skip
    found = answer(report, "bundle")
    assert found["overlap"]["effective"] == pytest.approx(found["overlap"]["rounds"])
    assert found["overlap"]["unsupported"] == 0
    assert found["estimates"]["ips"]["value"] == pytest.approx(report.data["logging"]["resolved"]["value"])
    assert found["less_logged"]["ips"]["asymptotic"] == pytest.approx([0, 0], abs=1e-6)
    assert answer(report, "scores")["overlap"]["agreeing"] == pytest.approx(0.55, abs=0.15)


def ranked_offers(rolling: RollingMatcher, contact: Any, codes: np.ndarray, ids: list[str]) -> list[Candidate]:
    """What a match of these CSAs returns."""
    ranked = rolling.rank(contact, codes, len(codes), "success")
    assert ranked.p_resolved is not None
    assert ranked.logit is not None
    p, logit = ranked.p_resolved.tolist(), ranked.logit.tolist()
    return [
        Candidate(ids[c], float(ranked.score[k]), p[k], None, (), logit=logit[k]) for k, c in enumerate(ranked.codes)
    ]


def no_support(tmp_path: Path) -> Path:
    """A queue that always takes the first of the list."""
    content = worlds.tables()
    lists = dict(
        zip(content["contacts"]["contact_id"].to_pylist(), content["contacts"]["eligible"].to_pylist(), strict=True)
    )
    names = content["interactions"]["contact_id"].to_pylist()
    content = worlds.with_column(content, "interactions", "csa_id", [lists[one][0] for one in names])
    return worlds.write(
        worlds.with_column(content, "interactions", "propensity", [1.0] * len(names)), tmp_path / "certain"
    )


def test_a_log_without_support_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = no_support(tmp_path)
    words = ["--data", str(data), "--policy", "uniform", *WINDOW, "--output", str(tmp_path / "out")]
    status = run_verb("ope", [*words, "--json"], EntryPoint("ope", "evaluation.ope.verb:VERB", GROUP))
    assert status == 1
    found = json.loads(capsys.readouterr().out)
    [one] = found["answers"]
    assert any(line.startswith("no support: 75.0% of what the policy would choose") for line in one["refused"])
    assert one["estimates"] == one["less_logged"] == {}
    assert one["sensitivity"] is None
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "refused: uniform, resolved: no support" in page


def test_a_refusal_has_no_number_in_the_text(tmp_path: Path) -> None:
    report = ope("--data", no_support(tmp_path), "--policy", "uniform", *WINDOW)
    assert not report.ok
    values = [line for line in report.text.splitlines() if line.startswith("uniform") and "DR" in line]
    assert values == []
    assert report.text.count("refused: uniform") == len(answer(report, "uniform")["refused"])


def test_a_small_log_is_refused(ope_data: Path) -> None:
    report = ope("--data", ope_data, "--policy", "uniform", "--from", "2026-01-30T00:00:00Z", "--draws", 0)
    assert not report.ok
    assert any("100 are needed: choose a longer window" in line for line in answer(report, "uniform")["refused"])


def test_falsified_propensities_are_refused(tmp_path: Path) -> None:
    content = worlds.tables()
    wrong = np.minimum(1.0, 1.6 * content["interactions"]["propensity"].to_numpy())
    data = worlds.write(worlds.with_column(content, "interactions", "propensity", wrong), tmp_path / "wrong")
    report = ope("--data", data, "--policy", "uniform", *WINDOW)
    assert any("the mean weight is" in line for line in answer(report, "uniform")["refused"])


def test_thresholds_are_the_files(ope_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "ope.yaml"
    path.write_text("policies: [uniform]\nmetrics: [csat]\ndraws: 0\ngates: {least_effective: 1000}\n")
    report = ope("--data", ope_data, "--config", path, "--from", worlds.FROM)
    [line] = answer(report, "uniform", "csat")["refused"]
    assert "1000 are needed" in line
    assert report.data["gates"]["least_effective"] == 1000
    path.write_text("policies: [uniform]\nmetrics: [csat]\ndraws: 0\ngates: {least_efective: 1000}\n")
    with pytest.raises(
        ConfigError, match=r"ope.yaml: gates.least_efective: no such field; did you mean least_effective\?"
    ):
        ope("--data", ope_data, "--config", path)


def test_the_command_line_wins_over_the_file(ope_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "ope.yaml"
    path.write_text("policies: [uniform]\nestimator: ips\ndraws: 0\n")
    assert ope("--data", ope_data, "--config", path, "--from", worlds.FROM).data["estimator"] == "ips"
    report = ope(
        "--data", ope_data, "--config", path, "--estimator", "snips", "--metric", "csat", "--from", worlds.FROM
    )
    assert (report.data["estimator"], list(report.data["logging"])) == ("snips", ["csat"])


def test_the_example_is_read() -> None:
    from evaluation.ope.overlap import Gates
    from evaluation.ope.spec import OpeSpec
    from evaluation.simulate.scenario import read

    path = Path(__file__).parents[3] / "configs" / "ope.yaml"
    spec = read(path, OpeSpec)
    assert spec.thresholds == Gates()
    default = OpeSpec.model_validate({"policies": ["uniform"]}).model_dump()
    given = {name: value for name, value in spec.model_dump().items() if name not in ("policies", "metrics")}
    assert given == {name: default[name] for name in given}
    assert set(yaml.safe_load(path.read_text())) == set(OpeSpec.model_fields)


def test_a_bundle_that_knows_the_window(ope_data: Path, ope_bundle: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"policy bundle: .* it knows how these contacts ended.*give --from 2026-01-21T"
    ):
        ope("--data", ope_data, "--policy", ope_bundle, "--from", "2026-01-15T00:00:00Z")


def test_the_same_bundle_twice(ope_data: Path, ope_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "ope.yaml"
    path.write_text(
        f"draws: 0\npolicies: [{ope_bundle}, {{bundle: {ope_bundle}, temperature: 0.0001}}]\n"
        "gates: {least_effective: 1, least_clusters: 1, most_weight: 1}\n"
    )
    report = ope("--data", ope_data, "--config", path, "--to", "2026-01-23T00:00:00Z")
    assert [one["name"] for one in report.data["policies"]] == ["bundle", "bundle (2)"]
    assert answer(report, "bundle (2)")["less_first"]["value"] == pytest.approx(0, abs=0.01)
    assert "temperature 0.0001" in report.data["policies"][1]["described"]


def test_mips_can_be_asked_for(ope_data: Path, ope_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "ope.yaml"
    path.write_text(
        f"draws: 0\npolicies: [{ope_bundle}]\ngates: {{least_effective: 1, least_clusters: 1, most_weight: 1}}\n"
    )
    report = ope("--data", ope_data, "--config", path, "--estimator", "mips", "--to", "2026-01-24T00:00:00Z")
    found = answer(report, "bundle")
    assert found["groups"][1] == worlds.CSAS
    assert found["overlap_of_groups"]["effective"] >= found["overlap"]["effective"] - 1e-6
    assert "mips" in found["estimates"]
    alone = ope("--data", ope_data, "--policy", "uniform", "--estimator", "mips", *WINDOW)
    assert not alone.ok
    assert answer(alone, "uniform")["refused"][0].startswith("needs a bundle, whose vectors group CSAs")
