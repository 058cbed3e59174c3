"""What training reads of a log: nothing of the future, and nothing that a cut would take away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.train.conftest import SMALL
from train.prepare import prepare, texts_of
from twotower.clock import NEVER
from twotower.errors import DataError
from twotower.features.history import HistoryEngine, KnownHandovers
from twotower.tables.log import Handovers, Log


def changed(log: Log, from_: int) -> Log:
    """The same log with the outcomes, takers and handle times of everything known at `from_` or later turned about."""
    old = log.handovers
    late = old.known_at >= from_
    turned: dict[str, object] = {
        "csa": np.where(late, (old.csa + 1) % len(log.csas), old.csa).astype(np.int32),
        "resolved": np.where(late & (old.resolved >= 0), 1 - old.resolved, old.resolved).astype(np.int8),
        "handle_time_s": np.where(late, 1.0, old.handle_time_s).astype(np.float32),
    }
    handovers: Handovers = replace(old, **turned)  # type: ignore[arg-type]
    return replace(log, handovers=handovers)


def test_what_became_known_later_changes_no_bit_of_an_earlier_snapshot(centre, prepared):
    log = Log.load(centre)
    for moment in prepared.moments[[40]]:
        other = prepare(changed(log, int(moment)), SMALL, 0.1)
        before = prepared.moments <= moment
        assert prepared.csa_features[before].tobytes() == other.csa_features[before].tobytes()
        assert prepared.exposure[before].tobytes() == other.exposure[before].tobytes()
        assert prepared.csa_features[~before].tobytes() != other.csa_features[~before].tobytes()


def test_snapshots_hold_the_history_as_of_their_moment(prepared):
    known = KnownHandovers(
        prepared.csa.astype(np.int32),
        prepared.known_at,
        prepared.resolved,
        np.full(len(prepared.csa), np.nan, np.float32),
        prepared.base[prepared.contact],
    )
    names = prepared.schema.csa_numbers
    counted = [names.index(name) for name in ("history_handled", "history_outcomes", "history_rate")]
    width = prepared.schema.base_dim
    for snapshot in (1, 33, len(prepared.moments) - 1):
        engine = HistoryEngine(len(prepared.identity), width, prepared.schema.history_half_life_s, 0)
        engine.advance(known, int(prepared.moments[snapshot]))
        features = engine.features()
        assert np.allclose(prepared.csa_features[snapshot][:, counted], features[:, :3], atol=1e-5)
        good = slice(names.index("good_0"), names.index("good_0") + width)
        assert np.allclose(prepared.csa_features[snapshot][:, good], features[:, 5 : 5 + width], atol=1e-5)


def test_every_contact_reads_the_last_snapshot_before_it(prepared):
    moment = prepared.moments[prepared.snapshot]
    assert (moment <= prepared.arrived_at).all()
    assert (prepared.arrived_at < moment + prepared.schema.granularity_us).all()


def test_the_same_log_is_the_same_numbers(centre, prepared):
    again = prepare(Log.load(centre), SMALL, 0.1)
    for name in ("base", "csa_features", "exposure", "numbers", "table", "log_weight", "roster_features"):
        assert getattr(prepared, name).tobytes() == getattr(again, name).tobytes(), name
    assert prepared.schema.to_json() == again.schema.to_json()


def test_the_window_ends_just_after_the_last_thing_known(centre, prepared):
    handovers = Log.load(centre).handovers
    last = handovers.known_at[handovers.known_at < NEVER].max()
    assert prepared.end == 1 + max(last, prepared.arrived_at[-1])
    assert prepared.engine.moment == prepared.end


def test_texts_are_the_need_and_then_the_transcript(centre):
    log = Log.load(centre)
    texts = texts_of(log)
    need, said = log.contacts.intent_text[7].as_py(), log.contacts.transcript[7].as_py()
    assert texts[7].startswith((need, said))
    assert len(texts) == len(log.contacts)


def test_a_log_too_small_to_learn_from_is_refused(centre):
    log = Log.load(centre)
    early = int(np.sort(log.handovers.known_at)[40])
    with pytest.raises(DataError, match="40 hand-overs with a known end, 50 are needed to train"):
        prepare(log.cut(early), SMALL, 0.1)
