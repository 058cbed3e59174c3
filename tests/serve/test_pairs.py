"""An explanation adds up: parts to the score, hand-overs to their parts, families to the profile part; and says so."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve.customers import Customers
from serve.matcher import Matcher, MatchError
from serve.pairs import Explanation
from serve.pairs_live import NOT_ACTIVE
from tests.serve import fakes, returning
from tests.serve.returning import SECRET
from tests.serve.returning import bundle as bundle
from tests.serve.returning import file as file
from tests.serve.returning import returning_data as returning_data
from twotower.features.schema import FeatureSchema
from twotower.tables.log import Log

CONTACT: dict[str, Any] = {
    "contact_id": "c1",
    "intent_text": "refund my card please",
    "channel": "chat",
    "language": "en",
    "intent": "refund",
    "arrived_at": fakes.until_us(),
}
CLOSE = 1e-5


def adds_up(it: Explanation) -> None:
    """Every sum is what it says it is the sum of."""
    assert sum(part.value for part in it.parts) == pytest.approx(it.score, abs=CLOSE)
    told = {name for past in it.past for name in past.others}
    for part in it.parts:
        if part.name in told:
            [past] = [past for past in it.past if part.name in past.others]
            shares = sum(one.shares[part.name] for one in past.top) + past.others[part.name]
            assert part.without + shares == pytest.approx(part.value, abs=CLOSE), part
        elif part.kind == "profile":
            assert part.without + sum(one.share for one in it.families) == pytest.approx(part.value, abs=CLOSE)
    for past in it.past:
        assert sum(past.others.values()) == pytest.approx(past.others_share, abs=CLOSE)
        for one in past.top:
            assert sum(one.shares.values()) == pytest.approx(one.share, abs=CLOSE)


@pytest.mark.parametrize("rank", ["success", "handled"])
@pytest.mark.parametrize("top", [0, 2, 100])
def test_everything_adds_up_for_everyone(folder: Path, rank: Any, top: int) -> None:
    matcher = Matcher.load(folder)
    for candidate in matcher.match(CONTACT, k=100, rank=rank):
        found = matcher.explain(CONTACT, candidate.csa_id, rank, top=top)
        assert (found.score, found.p_resolved) == (
            pytest.approx(candidate.score, abs=CLOSE),
            pytest.approx(candidate.p_resolved, abs=CLOSE),
        )
        assert found.uncertainty == pytest.approx(candidate.uncertainty, abs=CLOSE)
        adds_up(found)
        own = next(past for past in found.past if past.scope == "csa")
        assert len(own.top) == min(top, own.count)
        assert own.count > 0


def test_a_sum_that_is_spoilt_is_found(matcher: Matcher) -> None:
    """The check above can fail."""
    found = matcher.explain(CONTACT, "csa-03", top=2)
    object.__setattr__(found.past[0].top[0], "shares", dict.fromkeys(found.past[0].top[0].shares, 0.5))
    with pytest.raises(AssertionError):
        adds_up(found)


def test_families_are_those_of_the_schema(folder: Path) -> None:
    found = Matcher.load(folder).explain(CONTACT, "csa-03")
    schema = FeatureSchema.load(folder / "features.json")
    contacts = {"labels", "form", "clock", "priority", "signals", "customer", "frequency", "style", "relationship"}
    csas = {"profile", "skills", "roster", "tenure", "record", "upset", "load", "similarity", "history", "groups"}
    on = set(schema.families)
    named = {side: {one.name for one in found.families if one.side == side} for side in ("contact", "csa")}
    assert named["contact"] == {"text"} | (contacts & on)
    assert named["csa"] == {"identity"} | (csas & on) | ({"relationship"} & on)


def test_a_family_that_is_neutral_has_no_share(matcher: Matcher) -> None:
    """Without a word the text adds nothing, without a label the labels add nothing."""
    shares = {one.name: one.share for one in matcher.explain({}, "csa-03").families if one.side == "contact"}
    assert shares["text"] == shares["labels"] == 0
    shares = {one.name: one.share for one in matcher.explain(CONTACT, "csa-03").families if one.side == "contact"}
    assert shares["text"] != 0


def test_the_same_question_has_the_same_answer(folder: Path) -> None:
    first, second = (Matcher.load(folder).explain(CONTACT, "csa-05").to_json() for _ in range(2))
    assert first == second


def test_hand_overs_are_those_of_the_tables(matcher: Matcher, data: Path) -> None:
    log = Log.load(data, until=fakes.until_us())
    found = matcher.explain(CONTACT, "csa-03", top=100)
    [own] = [past for past in found.past if past.scope == "csa"]
    ids, csa = log.contacts.ids.to_pylist(), log.csas.ids.to_pylist().index("csa-03")
    moves = log.handovers
    ends = {ids[int(moves.contact[i])]: int(moves.resolved[i]) for i in np.flatnonzero(moves.csa == csa)}
    for one in own.top:
        assert one.contact_id in ends
        assert one.outcome == ("not resolved", "resolved")[ends[one.contact_id]]
        assert one.days_ago > 0
        assert -1.001 <= one.likeness <= 1.001
        assert one.stands_for == 1
        assert np.sign(one.better) == (1 if one.outcome == "resolved" else -1)


def test_what_has_ended_since_counts_and_is_told(folder: Path) -> None:
    matcher = Matcher.load(folder)
    before = matcher.explain(CONTACT, "csa-03", top=100, at=fakes.until_us(22))
    matcher.ended(CONTACT, "csa-03", fakes.until_us(21), resolved=True)
    found = matcher.explain(CONTACT, "csa-03", top=100, at=fakes.until_us(22))
    adds_up(found)
    own, earlier = (next(past for past in one.past if past.scope == "csa") for one in (found, before))
    [new] = [one for one in own.top if one.days_ago < 1.5]
    assert (new.contact_id, new.outcome) == (None, "resolved")
    assert new.likeness == pytest.approx(1, abs=5e-3)  # what is remembered has 8 bits a number
    assert new.share > 0
    assert own.count == min(earlier.count + 1, fakes.PER_CSA)
    [learned] = [one.share for one in found.families if one.name == "learned"]
    assert learned != 0
    assert "learned" not in {one.name for one in before.families}


def test_the_customers_hand_overs_are_told(bundle: Path, file: Path, returning_data: Path) -> None:
    matcher = Matcher.load(bundle, customers=Customers.load(file, SECRET))
    log = Log.load(returning_data)
    told = 0
    for contact in returning.contacts_of(log, np.flatnonzero(log.contacts.arrived_at >= returning.T)[:40]):
        for candidate in matcher.match(contact, k=3, rank="handled"):
            found = matcher.explain(contact, candidate.csa_id, "handled")
            assert found.score == pytest.approx(candidate.score, abs=CLOSE)
            adds_up(found)
            told += sum(past.count for past in found.past if past.scope == "pair")
    assert told > 0


def test_without_failures_there_is_no_probability(data: Path, tmp_path: Path) -> None:
    run = fakes.write_run(data, tmp_path / "run", calibrated=False)
    found = Matcher.load(fakes.fake_bundle(run, tmp_path / "bundle")).explain(CONTACT, "csa-03")
    assert (found.p_resolved, found.uncertainty, found.between) == (None, None, None)
    adds_up(found)
    assert found.words()[0].startswith("No probability")


def test_the_probability_lies_between_its_bounds(matcher: Matcher) -> None:
    for candidate in matcher.match(CONTACT, k=100):
        found = matcher.explain(CONTACT, candidate.csa_id)
        assert found.between is not None
        assert found.p_resolved is not None
        assert 0 < found.between[0] < found.p_resolved < found.between[1] < 1


def test_words_are_for_people(folder: Path) -> None:
    """No name of a kernel, a column or a family, no formula; every number with its sign or a share."""
    matcher = Matcher.load(folder)
    for rank in ("success", "handled"):
        found = matcher.explain(CONTACT, "csa-03", rank)  # type: ignore[arg-type]
        text = "\n".join(found.words())
        assert not re.search(r"[_=β∞κ`{}]|\bcsa (mass|residual)\b|\bNone\b|\bnan\b|-0\.00", text)
        assert all(line.endswith((".", ";")) for line in found.words())
        assert "csa-03" in text
        assert f"{found.score:+.2f}" in text
        assert found.words()[-1].startswith("This tells of one person")


@pytest.mark.parametrize(
    ("p", "low", "high", "said"),
    [
        (0.62, 0.481, 0.744, "a probability of 62%; from what is known it may be 48% to 74%."),
        (0.62, 0.6199, 0.6201, "a probability of 62%."),
        (0.9999, 0.9996, 1.0, "a probability of more than 99%."),
        (0.993, 0.975, 0.998, "a probability of 99%; from what is known it may be 98% to more than 99%."),
        (1e-5, 1e-9, 0.03, "a probability of less than 1%; from what is known it may be less than 1% to 3%."),
        (0.5, 0.005, 0.995, "a probability of 50%; from what is known it may be less than 1% to more than 99%."),
    ],
)
def test_a_probability_and_its_range_read_sensibly(
    matcher: Matcher, p: float, low: float, high: float, said: str
) -> None:
    """Neither 0% nor 100%, and no range from a number to itself."""
    found = replace(matcher.explain(CONTACT, "csa-03"), p_resolved=p, between=(low, high))
    assert found.words()[0].endswith(said)


def test_json_is_json(folder: Path) -> None:
    found = Matcher.load(folder).explain(CONTACT, "csa-03").to_json()
    assert json.loads(json.dumps(found, allow_nan=False))["parts"][0]["name"] == "level"


def test_who_has_left_is_explained_and_noted(folder: Path, data: Path, tmp_path: Path) -> None:
    late = fakes.write_run(data, tmp_path / "run", until=fakes.until_us(24))
    found = Matcher.load(fakes.fake_bundle(late, tmp_path / "bundle")).explain(CONTACT, "csa-00")
    assert NOT_ACTIVE in found.notes
    assert NOT_ACTIVE in found.words()


def test_what_cannot_be_explained_is_one_line(matcher: Matcher) -> None:
    for contact, csa, rank, line in (
        (CONTACT, "nobody", None, "'nobody' is not in the roster"),
        ({"intent_text": 3}, "csa-03", None, "contact field 'intent_text'"),
        (CONTACT, "csa-03", "luck", "does not rank by 'luck'"),
    ):
        with pytest.raises(MatchError, match=line):
            matcher.explain(contact, csa, rank)  # type: ignore[arg-type]


def test_ages_are_counted_from_the_moment_of_the_question(matcher: Matcher) -> None:
    now, later = (matcher.explain(CONTACT, "csa-03", at=fakes.START + timedelta(days=day)) for day in (21, 25))
    ages = [{one.known_at: one.days_ago for past in it.past for one in past.top} for it in (now, later)]
    both = ages[0].keys() & ages[1].keys()
    assert both
    assert all(ages[1][one] - ages[0][one] == pytest.approx(4) for one in both)
