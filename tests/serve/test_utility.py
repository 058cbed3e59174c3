"""What is expected of a hand-over beside success, and ranking by a utility, from the router's side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from serve import nominate, snapshot
from serve.contact import MatchError
from serve.matcher import Matcher
from serve.rolling import RollingMatcher
from serve.verb import VERB
from tests.serve import fakes
from twotower.cli import run_verb
from twotower.clock import DAY
from twotower.errors import BundleError
from twotower.scoring.outcomes import NAMES, Expected
from twotower.scoring.utility import Utility
from twotower.tables.log import Log

UNTIL = fakes.until_us()
CONTACT = {"intent_text": "my refund please", "channel": "chat", "language": "en"}
MIXED = Utility(resolved=1.0, csat=0.3, handle_minutes=-0.05, transferred=-0.5)
TEXTS = ("refund", "lost card again", "where is my delivery", "invoice please", None)


class Entry:
    """An installed entry point."""

    value = "serve.verb:VERB"

    def load(self) -> Any:
        return VERB


def everyone(matcher: Matcher, contact: dict[str, Any] = CONTACT, **options: Any) -> dict[str, Any]:
    """All candidates by id, in their order."""
    found = matcher.match(contact, k=len(matcher.snapshot.ids), rank=options.pop("rank", "success"), **options)
    return {one.csa_id: one for one in found}


def test_what_is_expected_is_what_the_graphs_say(matcher: Matcher) -> None:
    seen, view, heads = matcher.read(CONTACT), matcher.snapshot, matcher.bundle.join.outcomes
    for csa_id, one in everyone(matcher).items():
        place = view.codes[csa_id]
        fit = float(view.vectors_of(np.array([place]))[0] @ seen.encoded.profile[0])
        raw = seen.encoded.outcomes[0] + view.own_of(np.array([place]))[0]
        wanted = [raw[t] + head.fit * fit if head else None for t, head in enumerate(heads.heads)]
        assert one.expected.resolved == one.p_resolved
        assert one.expected.quality_score is None
        assert one.expected.csat == pytest.approx(min(max(wanted[0], 1), 5), rel=1e-5)
        assert one.expected.transferred == pytest.approx(min(max(wanted[3], 0), 1), abs=1e-5)
        assert one.expected.handle_time_s == pytest.approx(np.expm1(wanted[2] + heads.heads[2].variance / 2), rel=1e-4)
    assert len({one.expected for one in everyone(matcher).values()}) == len(view.ids)


@pytest.mark.parametrize("utility", [MIXED, Utility(resolved=0, csat=1), Utility(resolved=0, handle_minutes=-3)])
def test_a_utility_ranks_as_the_sum_of_what_is_expected(matcher: Matcher, utility: Utility) -> None:
    for text in TEXTS:
        plain = everyone(matcher, {"intent_text": text})
        found = everyone(matcher, {"intent_text": text}, utility=utility)
        assert set(found) == set(plain)
        worth = {
            csa_id: utility.resolved * (one.p_resolved or 0)
            + utility.csat * (one.expected.csat or 0)
            + utility.handle_minutes * (one.expected.handle_time_s or 0) / 60
            + utility.transferred * (one.expected.transferred or 0)
            for csa_id, one in plain.items()
        }
        assert {csa_id: one.score for csa_id, one in found.items()} == pytest.approx(worth, rel=1e-5)
        assert [one.score for one in found.values()] == sorted((one.score for one in found.values()), reverse=True)
        assert list(found) == sorted(worth, key=lambda csa_id: -worth[csa_id])


@pytest.mark.parametrize("utility", [Utility(), Utility(resolved=0.3)])
def test_success_alone_gives_the_default_order_exactly(matcher: Matcher, utility: Utility) -> None:
    for text in TEXTS:
        plain, found = (
            everyone(matcher, {"intent_text": text}),
            everyone(matcher, {"intent_text": text}, utility=utility),
        )
        assert list(found) == list(plain)
        for csa_id, one in found.items():
            assert one.score == pytest.approx(utility.resolved * plain[csa_id].p_resolved, rel=1e-6)
            assert one.expected == plain[csa_id].expected


def test_equal_probabilities_keep_the_order_of_their_logits(data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """An isotonic map is flat in places; a weight of almost nothing must not turn ties into chance."""
    matcher = Matcher.load(fakes.fake_bundle(fakes.write_run(data, tmp_path / "run"), tmp_path / "bundle"))
    flat = type(matcher._join.calibration)("isotonic", logits=(-9.0, 9.0), values=(0.5, 0.5))
    object.__setattr__(matcher._join, "calibration", flat)
    plain = everyone(matcher)
    assert {one.p_resolved for one in plain.values()} == {0.5}
    assert list(everyone(matcher, utility=Utility())) == list(plain)


def test_reasons_are_the_weighted_outcomes(matcher: Matcher) -> None:
    found = list(everyone(matcher, utility=MIXED).values())
    mean = np.mean([one.score for one in found])
    for one in found:
        assert {reason.part for reason in one.reasons} <= set(MIXED.weights)
        if len(one.reasons) == len(MIXED.weights):
            assert sum(reason.effect for reason in one.reasons) == pytest.approx(one.score - mean, abs=1e-5)
    assert any("handle_minutes" in {reason.part for reason in one.reasons} for one in found)


def test_a_batch_ranks_as_one_by_one(matcher: Matcher) -> None:
    contacts = [{"intent_text": text} for text in TEXTS]
    eligible = [None, ["csa-02", "csa-05", "csa-01"], [], None, ["csa-03"]]
    batch = matcher.match_batch(contacts, 4, eligible, utility=MIXED)
    assert batch == [
        matcher.match(contact, 4, who, utility=MIXED) for contact, who in zip(contacts, eligible, strict=True)
    ]
    assert [len(found) for found in batch] == [4, 3, 0, 4, 1]


def test_searches_nominate_the_quick_as_well_as_the_good(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """With next to no room in either list, who is best by outcomes alone is found although no search finds them."""
    exact = everyone(matcher, utility=(quick := Utility(resolved=0.01, handle_minutes=-10)))
    for name in ("EXACT_CSAS", "EXACT_HISTORY", "FROM_HISTORY_ROWS", "FROM_SURROGATE"):
        monkeypatch.setattr(snapshot, name, 1)
    monkeypatch.setattr(nominate, "BY_SUCCESS", 1)
    monkeypatch.setattr(nominate, "BY_OUTCOMES", 3)
    view = matcher.snapshot
    one = matcher.vectors(matcher.read(CONTACT).encoded, [None])
    found = nominate.nominated(view, matcher._join, quick, one, k=1)
    assert len(found) < len(exact)
    best = list(exact)[:2]
    assert set(best) <= {view.ids[code] for code in found}
    assert not set(best) <= {view.ids[code] for code in view.candidates(one, "success", 1)}
    assert [one.csa_id for one in matcher.match(CONTACT, k=1, utility=quick)] == best[:1]


def test_nobody_is_nominated_who_is_not_eligible(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXACT_CSAS", "EXACT_HISTORY"):
        monkeypatch.setattr(snapshot, name, 0)
    some = ["csa-01", "csa-04", "csa-07", "csa-09"]
    assert set(everyone(matcher, utility=MIXED, eligible=some)) == set(some)
    active = {csa_id for csa_id, works in zip(matcher.snapshot.ids, matcher.snapshot.active, strict=True) if works}
    assert set(everyone(matcher, utility=MIXED)) == active


def test_an_outcome_moves_what_is_expected_of_its_own_csa_alone(whole_bundle: Path) -> None:
    """Until a refresh, which moves everyone; what a roll then says is compared in `test_live.py`."""
    matcher = Matcher.load(whole_bundle)
    before = everyone(matcher)
    for i in range(4):
        matcher.ended(CONTACT, "csa-03", UNTIL + i * DAY // 8, resolved=True, handle_time_s=3000.0, csat=1.0)
    after = everyone(matcher)
    moved = {csa_id for csa_id in before if after[csa_id].expected != before[csa_id].expected}
    assert moved == {"csa-03"}
    assert after["csa-03"].expected.csat != before["csa-03"].expected.csat
    matcher.refresh(UNTIL + 9 * DAY)
    later = everyone(matcher)
    assert all(later[csa_id].expected != after[csa_id].expected for csa_id in later)


def test_a_log_that_is_rolled_forward_ranks_by_the_same_utility(matcher: Matcher, data: Path) -> None:
    log = Log.load(data)
    rolling = RollingMatcher(matcher, log)
    for position in (100, 130, 155):
        one, who = rolling.contacts(np.array([position])), rolling.candidates(position)
        ranked = rolling.rank(one, who, len(who), utility=MIXED)
        p = rolling.score(one, who, "success").p_resolved
        assert p is not None
        expected = rolling.expected(one, who)
        worth = p + 0.3 * expected[:, 0] - 0.05 * expected[:, 2] / 60 - 0.5 * expected[:, 3]
        np.testing.assert_allclose(ranked.score, np.sort(worth)[::-1], rtol=1e-5)
        np.testing.assert_array_equal(ranked.expected, expected[ranked.places])


@pytest.mark.parametrize(
    ("utility", "rank", "error", "said"),
    [
        (Utility(quality_score=1), None, BundleError, "no head for quality_score"),
        (MIXED, "handled", MatchError, "rank 'handled' with a utility"),
    ],
)
def test_what_cannot_be_ranked_by_is_one_line(matcher: Matcher, utility: Any, rank: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said) as refused:
        matcher.match(CONTACT, rank=rank, utility=utility)
    assert "\n" not in str(refused.value)


def test_a_bundle_without_failures_ranks_by_what_it_tells(data: Path, tmp_path: Path) -> None:
    folder = fakes.fake_bundle(fakes.write_run(data, tmp_path / "run", calibrated=False), tmp_path / "bundle")
    matcher = Matcher.load(folder)
    with pytest.raises(BundleError, match=r"resolved has a weight, but this bundle.s log had no failures"):
        matcher.match(CONTACT, utility=Utility(csat=1))
    found = matcher.match(CONTACT, utility=Utility(resolved=0, csat=1))
    assert [one.score for one in found] == pytest.approx([one.expected.csat for one in found])
    assert found[0].expected.resolved is None
    assert matcher.match(CONTACT)[0].score != found[0].score


def test_no_heads_no_expectations(data: Path, tmp_path: Path) -> None:
    run = fakes.write_run(data, tmp_path / "run")
    type(fakes.join())(fakes.join().ranks, "success", True).save(run / "calibration.json")
    found = Matcher.load(fakes.fake_bundle(run, tmp_path / "bundle")).match(CONTACT, k=1)[0]
    assert found.expected == Expected(resolved=found.p_resolved)


def match(*argv: Any) -> int:
    return run_verb("match", [str(a) for a in argv], Entry())  # type: ignore[arg-type]


def test_the_verb_ranks_by_weights_and_refuses_in_a_line(
    bundle_folder: Path, data: Path, matcher: Matcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.parquet"
    given = [bundle_folder, "--contacts", data / "contacts.parquet", "--output", out, "--k", 3]
    weights = "resolved=1,csat=0.3,handle_minutes=-0.05,transferred=-0.5"
    assert match(*given, "--utility", weights) == 0
    assert "matched by resolved=1 csat=0.3 handle_minutes=-0.05 transferred=-0.5" in capsys.readouterr().out
    rows = pq.read_table(out).to_pylist()
    contacts = pq.read_table(data / "contacts.parquet").to_pylist()
    for contact in contacts[:3]:
        wanted = matcher.match(contact, 3, contact["eligible"], utility=MIXED)
        mine = [row for row in rows if row["contact_id"] == contact["contact_id"]]
        assert [(row["csa_id"], row["score"]) for row in mine] == [
            (one.csa_id, pytest.approx(one.score)) for one in wanted
        ]
    assert match(*given, "--data", data, "--utility", weights) == 0
    assert match(*given, "--utility", weights, "--rank", "success") == 0
    capsys.readouterr()
    for options, said in (
        (["--utility", "quality_score=1"], "no head for quality_score (it has csat, handle_time_s, transferred)"),
        (["--utility", "speed=1"], "'speed' is not known"),
        (["--utility", weights, "--rank", "handled"], "leave one of the two out"),
        (["--utility", "mine.yaml"], "mine.yaml: cannot be read"),
    ):
        assert match(*given, *options) == 1
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_the_graphs_put_out_one_column_a_target(matcher: Matcher) -> None:
    assert matcher.read(CONTACT).encoded.outcomes.shape == (1, len(NAMES))
    assert matcher.bundle.roster.own.shape == (len(matcher.snapshot.ids), len(NAMES))
