"""The matcher: raw contacts in, ranked CSAs out."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from serve import snapshot as module
from serve.answer import Candidate
from serve.contact import TEXTS, TIMES
from serve.matcher import Matcher, MatchError
from tests.serve import fakes
from twotower.errors import BundleError

CONTACT = {"intent_text": "where is my refund", "language": "en", "channel": "chat"}


def ids(found: list[Candidate]) -> list[str]:
    return [c.csa_id for c in found]


def test_the_best_k_come_best_first(matcher: Matcher) -> None:
    found = matcher.match(CONTACT, k=4)
    assert len(found) == len(set(ids(found))) == 4
    scores = [c.score for c in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < c.p_resolved < 1 for c in found if c.p_resolved is not None)


def test_k_beyond_the_roster_gives_everyone_active(matcher: Matcher) -> None:
    assert len(matcher.match(CONTACT, k=1000)) == int(matcher.snapshot.active.sum())


def test_the_scores_are_those_of_the_join(matcher: Matcher) -> None:
    found = {c.csa_id: c.score for c in matcher.match(CONTACT, k=1000, rank="handled")}
    one = matcher.vectors(matcher.bundle.contact_encoder.encode_one(CONTACT), [None])
    codes = np.flatnonzero(matcher.snapshot.active)
    scored = matcher.bundle.join.score(
        "handled", one, matcher.snapshot.memory, codes, matcher.bundle.roster.vectors[codes]
    )
    expected = dict(zip([matcher.snapshot.ids[c] for c in codes], scored.score, strict=True))
    assert found == pytest.approx({k: float(v) for k, v in expected.items()})


def test_the_two_meanings_of_a_rank_differ(matcher: Matcher) -> None:
    success, handled = (matcher.match(CONTACT, k=11, rank=rank) for rank in ("success", "handled"))  # type: ignore
    assert ids(success) != ids(handled)
    assert {c.csa_id: c.p_resolved for c in success} == pytest.approx({c.csa_id: c.p_resolved for c in handled})


def test_only_the_eligible_are_candidates(matcher: Matcher) -> None:
    assert set(ids(matcher.match(CONTACT, eligible=["csa-03", "csa-07", "csa-03"]))) == {"csa-03", "csa-07"}
    assert matcher.match(CONTACT, eligible=[]) == []


def test_unknown_eligible_ids_are_named(matcher: Matcher) -> None:
    with pytest.raises(MatchError, match="unknown csa_id 'nobody'"):
        matcher.match(CONTACT, eligible=["csa-03", "nobody"])
    with pytest.raises(MatchError, match="a list of csa_id expected, got one text"):
        matcher.match(CONTACT, eligible="csa-03")


@pytest.mark.parametrize("contact", [{}, {"intent_text": None}, {"shoe_size": 43, "transcript": ""}, {"queue": "x"}])
def test_anything_may_be_missing(matcher: Matcher, contact: dict[str, Any]) -> None:
    assert len(matcher.match(contact, k=3)) == 3


NULLS = [None, float("nan"), np.float32("nan"), pd.NaT, pd.NA]


def test_any_mapping_with_the_columns_of_contacts_is_taken(matcher: Matcher, data: Path) -> None:
    """Rows of Arrow tables and of data frames, read-only mappings, numbers of numpy's."""
    row = pq.read_table(data / "contacts.parquet").to_pylist()[150]
    expected = matcher.match(row, k=3)
    frame = pd.read_parquet(data / "contacts.parquet")
    others: list[Any] = [MappingProxyType(row), frame.iloc[150], frame.convert_dtypes().iloc[150]]
    assert [matcher.match(one, k=3) for one in others] == [expected] * 3
    assert matcher.match_batch(others, k=3) == [expected] * 3
    assert matcher.match({**row, "priority": np.int64(2)}, k=3) == matcher.match({**row, "priority": 2.0}, k=3)


@pytest.mark.parametrize("null", NULLS, ids=["None", "NaN", "NaN of numpy", "NaT", "NA"])
def test_every_field_may_be_null(matcher: Matcher, null: Any) -> None:
    nothing = dict.fromkeys((*TEXTS, *TIMES, "priority"), null)
    assert matcher.match(nothing, k=3) == matcher.match({}, k=3)
    assert matcher.assign([nothing, nothing]) == matcher.assign([{}, {}])


@pytest.mark.parametrize(
    ("contact", "message"),
    [
        ({"intent_text": 5}, "'intent_text': text or None expected, got int"),
        ({"customer_language": 5}, "'customer_language': text or None expected, got int"),
        ({"priority": "high"}, "'priority': a number or None expected, got str"),
        ({"arrived_at": datetime(2026, 1, 1)}, "has no zone"),
        ({"arrived_at": "yesterday"}, "arrived_at: a datetime with a zone"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_by_name(matcher: Matcher, contact: dict[str, Any], message: str) -> None:
    with pytest.raises(MatchError, match=message):
        matcher.match(contact)


def test_options_that_make_no_sense_are_refused(matcher: Matcher) -> None:
    with pytest.raises(MatchError, match="k: at least 1"):
        matcher.match(CONTACT, k=0)
    with pytest.raises(MatchError, match="does not rank by 'fame'"):
        matcher.match(CONTACT, rank="fame")  # type: ignore[arg-type]
    with pytest.raises(MatchError, match="1 lists for 2 contacts"):
        matcher.match_batch([{}, {}], eligible=[None])


def test_a_batch_is_its_contacts_one_by_one(matcher: Matcher) -> None:
    contacts = [CONTACT, {}, {"intent_text": "card " * 30}, {"intent_text": "cancel"}]
    eligible = [None, ["csa-01", "csa-02"], None, []]
    together = matcher.match_batch(contacts, k=5, eligible=eligible)
    assert together == [matcher.match(c, k=5, eligible=e) for c, e in zip(contacts, eligible, strict=True)]
    assert matcher.match_batch([]) == []


def test_the_moment_is_the_arrival_unless_it_is_given(matcher: Matcher) -> None:
    later = fakes.until_us() + fakes.days(30)
    arrived = matcher.match({**CONTACT, "arrived_at": later}, rank="handled")
    assert arrived == matcher.match({**CONTACT, "arrived_at": datetime.fromtimestamp(later / 1e6, UTC)}, rank="handled")
    moved = matcher.match({**CONTACT, "arrived_at": later}, rank="handled", at=fakes.until_us())
    assert [c.score for c in moved] != [c.score for c in arrived]


def test_a_contact_from_the_past_sees_no_later_hand_over(matcher: Matcher) -> None:
    """Before the first hand-over was known, only the profile speaks."""
    found = matcher.match(CONTACT, rank="success", at=1)
    assert {r.part for c in found for r in c.reasons} == {"profile"}


def test_reasons_say_what_sets_a_candidate_apart(matcher: Matcher) -> None:
    for candidate in matcher.match(CONTACT, k=3, rank="handled"):
        assert 1 <= len(candidate.reasons) <= 3
        shares = [abs(r.share) for r in candidate.reasons]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) <= 1 + 1e-6
        assert all(np.sign(r.share) == np.sign(r.effect) for r in candidate.reasons)


def test_effects_add_up_to_the_distance_from_the_mean(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.answer.REASONS", 99)
    monkeypatch.setattr("serve.answer.LEAST_SHARE", 0.0)
    found = matcher.match(CONTACT, k=1000, rank="handled")
    mean = np.mean([c.score for c in found])
    for candidate in found:
        assert sum(r.effect for r in candidate.reasons) == pytest.approx(candidate.score - mean, abs=1e-4)


def test_a_log_without_failures_has_no_p_resolved(data: Path, tmp_path: Path) -> None:
    run = fakes.write_run(data, tmp_path / "run", calibrated=False)
    found = Matcher.load(fakes.fake_bundle(run, tmp_path / "bundle")).match(CONTACT)
    assert [c.p_resolved for c in found] == [None] * len(found)


def test_a_bundle_is_loaded_by_its_digest_only(bundle_folder: Path, matcher: Matcher) -> None:
    assert Matcher.load(bundle_folder, matcher.bundle.manifest.id).match(CONTACT) == matcher.match(CONTACT)
    with pytest.raises(BundleError, match="expected 123456"):
        Matcher.load(bundle_folder, "123456")


def test_a_departed_csa_is_no_candidate_unless_listed(data: Path, tmp_path: Path) -> None:
    """csa-00 left on day 22; the run's window ends on day 24."""
    run = fakes.write_run(data, tmp_path / "run", until=fakes.until_us(24))
    matcher = Matcher.load(fakes.fake_bundle(run, tmp_path / "bundle"))
    assert "csa-00" not in ids(matcher.match(CONTACT, k=100))
    assert ids(matcher.match(CONTACT, eligible=["csa-00"])) == ["csa-00"]


@pytest.mark.parametrize("scan", [6_000_000, 0], ids=["surrogate", "profiles"])
@pytest.mark.parametrize("selectivity", [0.0, 1.1], ids=["wide mask", "tight mask"])
def test_searched_candidates_hold_k_and_nobody_ineligible(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, scan: int, selectivity: float
) -> None:
    """Searches as wide as the roster find what scoring everyone finds; narrow ones still find k of the eligible."""
    monkeypatch.setattr(module, "SCANNED_COMPONENTS", scan)
    monkeypatch.setattr(module, "SELECTIVITY", selectivity)
    matcher = Matcher.load(bundle_folder)
    eligible = ["csa-01", "csa-04", "csa-06", "csa-09"]
    exact = [matcher.match(CONTACT, k=4, rank="handled", eligible=e) for e in (None, eligible)]
    monkeypatch.setattr(module, "EXACT_CSAS", 0)
    assert [matcher.match(CONTACT, k=4, rank="handled", eligible=e) for e in (None, eligible)] == exact
    for name in ("FROM_SURROGATE", "TIGHT", "FROM_HISTORY_ROWS"):
        monkeypatch.setattr(module, name, 1)
    for k in (1, 2, 4):
        found = matcher.match(CONTACT, k=k, rank="handled", eligible=eligible)
        assert len(found) == k
        assert set(ids(found)) <= set(eligible)


HEAVY = ("torch", "lightning", "transformers", "sentence_transformers", "numba", "pandera", "scipy")


def test_the_routers_process_never_loads_torch(whole_bundle: Path, data: Path) -> None:
    """With every family of features on, for a contact alone and for history rolled forward.

    Nor does it need pandas, which pyarrow looks for by itself and would load where it is installed.
    """
    program = (
        "import json, sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'pandas': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from serve.matcher import Matcher\n"
        f"matcher = Matcher.load({str(whole_bundle)!r})\n"
        "assert len(matcher.match({'intent_text': 'furious refund', 'customer_id': 'customer-3'})) == 10\n"
        "import serve.match_file, serve.verb\n"
        "from serve.rolling import RollingMatcher\n"
        "from twotower.tables.log import Log\n"
        f"rolling = RollingMatcher(matcher, Log.load({str(data)!r}))\n"
        "assert rolling.scores([30, 159]).shape == (2, 12)\n"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
