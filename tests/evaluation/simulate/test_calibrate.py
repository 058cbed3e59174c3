"""A known centre is found again from its log; estimators against closed forms; the real log where it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.simulate.calibrate import Choices, Fitted, fit
from evaluation.simulate.calibrated import calibrate, split_days, summary
from evaluation.simulate.calls import Calls, calls_of, read_calls
from evaluation.simulate.mapping import read_mapping
from evaluation.simulate.on_shift import Staffing, gaps, shifts
from evaluation.simulate.reproduce import reproduce
from evaluation.simulate.survival import grid, kaplan_meier, quantiles, turnbull
from tests.evaluation.simulate.call_logs import (
    AFTER_S,
    HANDLE_S,
    HEAD_START_S,
    HIGH,
    PATIENCE_S,
    SIGMA,
    known,
    log,
    mapping,
)
from twotower.cli import main
from twotower.engines import Engine
from twotower.errors import ConfigError, DataError

CONFIG = Path(__file__).parents[3] / "configs" / "anonymousbank.yaml"
# What is known of the centre: nobody has a break, and everybody is there from the opening to the closing.
CHOICES = Choices(staffing=Staffing(3600.0, 0.0, 60.0, 60.0), after_luck=0.0)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return log(14)


@pytest.fixture(scope="module")
def calls(frame: pd.DataFrame) -> Calls:
    return calls_of(frame, mapping())


@pytest.fixture(scope="module")
def fitted(calls: Calls) -> Fitted:
    return fit(calls, CHOICES)


def test_kaplan_meier_by_hand() -> None:
    seconds = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0])
    curve = kaplan_meier(seconds, np.array([True, True, False, True, False, True]), at_risk=2)
    assert curve.times.tolist() == [1.0, 2.0, 3.0]
    assert curve.alive == pytest.approx([5 / 6, 5 / 6 * 4 / 5, 5 / 6 * 4 / 5 * 2 / 3])
    assert curve.at(np.array([0.5, 1.0, 2.5])) == pytest.approx([1.0, 5 / 6, 2 / 3])
    assert np.isnan(curve.at(np.array([4.0])))[0]


def test_kaplan_meier_finds_an_exponential_that_service_censors() -> None:
    rng = np.random.default_rng(1)
    patience, service = rng.exponential(200.0, 20000), rng.exponential(100.0, 20000)
    curve = kaplan_meier(np.minimum(patience, service), patience < service)
    at = np.array([50.0, 100.0, 200.0, 300.0])
    assert curve.at(at) == pytest.approx(np.exp(-at / 200.0), abs=0.02)
    table = np.array(curve.quantiles(1001))
    assert table[[500, 750, 900]] == pytest.approx(200 * np.log([2, 4, 10]), rel=0.05)
    assert table[990] == pytest.approx(200 * np.log(100), rel=0.2), "the tail is exponential"
    assert table[-1] == np.inf


def test_nobody_who_abandons_means_nobody_will() -> None:
    table = kaplan_meier(np.array([5.0, 9.0]), np.zeros(2, np.bool_)).quantiles(11)
    assert min(table[1:]) > 1e100


def test_turnbull_finds_a_distribution_behind_intervals() -> None:
    rng = np.random.default_rng(2)
    at = grid(300.0)
    true = np.minimum(rng.exponential(40.0, 4000), 299.0)
    slack = rng.exponential(60.0, (2, 4000))
    exact = rng.random(4000) < 0.4
    low = np.where(exact, true, np.maximum(true - slack[0], 0))
    high = np.where(exact, true, np.minimum(true + slack[1], 299.0))
    p = turnbull(low, high, at)
    assert p.sum() == pytest.approx(1.0)
    assert quantiles(p, at, 101)[[25, 50, 75]] == pytest.approx(-40 * np.log([0.75, 0.5, 0.25]), rel=0.12)
    # Exact times alone give their own distribution.
    sure = turnbull(np.array([1.0, 1.0, 4.0]), np.array([1.0, 1.0, 4.0]), at)
    assert sure[[1, 4]] == pytest.approx([2 / 3, 1 / 3], abs=1e-5)


def test_a_known_centre_is_found_again(fitted: Fitted) -> None:
    """Within the tolerances that are stated here, of 14 days with about 1,250 calls each."""
    centre = known()
    assert fitted.classes == centre.classes
    open_hours = slice(16, 36)
    found = fitted.rates.an_hour[0][:, open_hours].sum(axis=1)
    assert found == pytest.approx(centre.rates[:, open_hours].sum(axis=1), rel=0.06)
    assert fitted.rates.dispersion == pytest.approx(1.0, abs=0.2)
    assert fitted.high_share == pytest.approx([HIGH, HIGH], abs=0.03)
    assert (fitted.handle_s[::2] > 0).tolist() == (HANDLE_S > 0).tolist()
    can = HANDLE_S > 0
    assert fitted.handle_s[::2][can] == pytest.approx(HANDLE_S[can], rel=0.15)
    assert fitted.sigma == pytest.approx(np.full(4, SIGMA), abs=0.08)
    assert fitted.day_sigma < 0.05
    assert fitted.pace[open_hours] == pytest.approx(np.ones(20), abs=0.05)


def test_patience_is_found_again(fitted: Fitted) -> None:
    for curve, of in zip(fitted.survival, fitted.patience_from, strict=True):
        assert np.array(curve.quantiles(101))[[10, 25, 50]] == pytest.approx(
            -PATIENCE_S * np.log([0.9, 0.75, 0.5]), rel=0.25
        )
        assert of in ("class", "type loan", "all calls")


def test_after_call_work_and_the_order_of_service_are_found_again(fitted: Fitted) -> None:
    assert fitted.after is not None
    expected = sum(AFTER_S) / 2
    assert np.average(fitted.after.mean_s, weights=fitted.after.gaps) == pytest.approx(expected, rel=0.2)
    assert fitted.after.day_sigma < 0.15
    assert fitted.discipline.of_high == pytest.approx(HEAD_START_S, abs=15)
    assert fitted.discipline.of_type == pytest.approx([0, 0], abs=20)
    assert fitted.discipline.agrees > 0.97 > fitted.discipline.agrees_without


def test_ray_reproduces_the_same_days(cluster: str, calls: Calls, fitted: Fitted) -> None:
    here, there = (reproduce(fitted, calls, [3, 4], 2, 5, engine) for engine in (Engine(), Engine("ray")))
    assert there.simulated.tobytes() == here.simulated.tobytes()


def test_held_out_days_of_a_known_centre_lie_in_their_bands(calls: Calls) -> None:
    fitting, held = split_days(calls, "alternate")
    found = reproduce(fit(calls.of_days(fitting), CHOICES), calls, held.tolist(), 25)
    for name, row in summary(found).items():
        assert row["inside"] >= row["days"] - 2, name
        assert abs(row["error"]) < 0.15, name


def test_shifts_and_breaks_are_read_from_services_alone(calls: Calls) -> None:
    day, rule = 0, Staffing(90.0, 0.0, 30.0, 0.0, 0.0)
    read, found = shifts(calls, day, rule), gaps(calls, day, rule)
    of = (calls.day == day) & calls.named
    assert len(read.csa) == len(np.unique(calls.csa[of])) + found.breaks.sum()
    assert (found.end - found.begin)[found.breaks].min() > 90.0
    # Other waits and other fates of callers, the same services: the same staffing.
    other = replace(calls, arrival=calls.arrival - 5.0, wait=calls.wait + 5.0, lost=calls.lost & (calls.wait < 50.0))
    again = shifts(other, day, rule)
    assert np.array_equal(read.csa, again.csa)
    assert again.starts == pytest.approx(read.starts)
    assert again.ends == pytest.approx(read.ends)


def test_days_are_split_as_asked(calls: Calls) -> None:
    fitting, held = split_days(calls, "alternate")
    assert fitting.tolist() == list(range(0, 14, 2))
    assert held.tolist() == list(range(1, 14, 2))
    assert split_days(calls, "first")[0].tolist() == list(range(7))
    with pytest.raises(ConfigError, match="alternate or first"):
        split_days(calls, "last")
    with pytest.raises(DataError, match="1 days to fit and 0 to hold out"):
        split_days(calls.of_days(np.array([0])), "alternate")
    with pytest.raises(DataError, match="days of kind 'end' are held out, and none are fitted"):
        split_days(calls.of_days(np.array([0, 2, 5])), "alternate")
    with pytest.raises(ConfigError, match="5 replications; a band"):
        calibrate(calls, replications=5)
    with pytest.raises(DataError, match="no abandoned ones"):
        fit(replace(calls, lost=np.zeros(len(calls), np.bool_)))


def test_the_verb_writes_a_centre_figures_and_a_page(
    frame: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    from tests.evaluation.simulate.call_logs import MAPPING

    frame[frame["day"] < "2026-01-08"].to_csv(tmp_path / "log.csv", index=False)
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(MAPPING))
    line = ["simulate", "calibrate", "--config", str(tmp_path / "map.yaml"), "--replications", "20"]
    log, output = ["--log", str(tmp_path / "log.csv")], ["--output", str(tmp_path / "out")]
    assert main([*line, *log, *output]) == 0
    assert "days inside" in capsys.readouterr().out
    centre = json.loads((tmp_path / "out" / "centre.json").read_text())["week"]
    assert np.array(centre["handle_s"]).shape == (4, 6)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["held_out"]["mean_wait_s"]["days"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 5
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    for wrong, said in (([*line], "calibrate: --log is missing"), ([*line, *log, *output], "exists already")):
        assert main(wrong) == 1
        assert said in capsys.readouterr().err


def test_the_real_log(real_data: Path) -> None:
    calls = read_calls(real_data / "ops_callcenter_anonymousbank_feb1999.parquet", read_mapping(CONFIG))
    fitting, held = split_days(calls, "alternate")
    fitted = fit(calls.of_days(fitting))
    assert fitted.discipline.of_high == pytest.approx(90, abs=10), "documented: a minute and a half"
    for name, row in summary(reproduce(fitted, calls, held.tolist(), 20)).items():
        assert row["share"] >= 0.5, name
        assert abs(row["error"]) < 0.3, name
