"""Encoding: what a contact's vectors are does not depend on the company it is encoded in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serve import fakes
from twotower.bundle import sessions
from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import CONTACT_INPUTS, CONTACT_OUTPUTS, ContactEncoder, CsaEncoder, open_session
from twotower.clock import SECOND
from twotower.errors import BundleError
from twotower.features.complexity import COMPLEXITY
from twotower.features.customer import SETTINGS, CustomerRows, signatures
from twotower.features.engine.customers import CustomerHistory
from twotower.features.engine.events import Arrivals, KnownHandovers
from twotower.features.registry import FAMILIES
from twotower.features.schema import FeatureSchema
from twotower.scoring.outcomes import TARGETS


@pytest.fixture(scope="module")
def encoder(bundle_folder: Path) -> ContactEncoder:
    return Bundle.open(bundle_folder).contact_encoder


def columns(count: int, seed: int = 0) -> dict[str, list[Any]]:
    """Contacts of very different lengths."""
    rng = np.random.default_rng(seed)
    return {
        "intent_text": [" ".join(rng.choice(fakes.TOPICS + fakes.FILLER, rng.integers(0, 14))) for _ in range(count)],
        "transcript": [None if i % 2 else "hello" for i in range(count)],
        "channel": ["chat"] * count,
        "arrived_at": [float(i) for i in range(count)],
    }


@given(st.lists(st.integers(0, 99), min_size=1, max_size=100, unique=True))
def test_any_subset_encodes_to_the_same_bits(encoder: ContactEncoder, chosen: list[int]) -> None:
    everything = columns(100)
    whole = encoder.encode(everything)
    part = encoder.encode({name: [values[i] for i in chosen] for name, values in everything.items()})
    for name in CONTACT_OUTPUTS:
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[chosen])


@pytest.mark.parametrize("offset", range(0, 16, 3))
def test_where_an_input_lies_in_memory_does_not_matter(bundle_folder: Path, offset: int) -> None:
    bundle = Bundle.open(bundle_folder)
    features, identity = bundle.roster.features[:1], bundle.roster.identity[:1]
    moved = np.empty(features.size + 16, np.float32)[offset : offset + features.size].reshape(1, -1)
    moved[:] = features
    np.testing.assert_array_equal(bundle.csa_encoder.encode(moved, identity)[0], bundle.roster.vectors[:1])


def test_rounds_do_not_show(encoder: ContactEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoder.encode(columns(90))
    monkeypatch.setattr(sessions, "ROUND", 7)
    np.testing.assert_array_equal(encoder.encode(columns(90)).memory, whole.memory)


def test_the_routers_path_equals_the_batch(encoder: ContactEncoder) -> None:
    many = columns(20)
    whole = encoder.encode(many)
    for i in range(20):
        one = encoder.encode_one({name: values[i] for name, values in many.items()})
        for name in CONTACT_OUTPUTS:
            np.testing.assert_array_equal(getattr(one, name)[0], getattr(whole, name)[i])


def test_the_tower_tells_intent_and_complexity(encoder: ContactEncoder) -> None:
    contacts = {**columns(3), "channel": ["chat", None, "fax"]}
    found = encoder.encode(contacts)
    assert found.intent.dtype == np.int64
    assert found.intent.shape == found.intent_p.shape == (3,)
    assert found.complexity.shape == (3, len(COMPLEXITY))
    assert found.outcomes.shape == (3, len(TARGETS))


@pytest.fixture(scope="module")
def everything(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ContactEncoder:
    """Of a run that reads every family of features."""
    folder = fakes.write_run(
        run_folder.parent / "data", tmp_path_factory.mktemp("all") / "run", families=list(FAMILIES)
    )
    return fakes.fake_encoder(folder, FeatureSchema.load(folder / "features.json"))


def customers(count: int) -> CustomerRows:
    """Every third is nobody, the others came between one and four times and met somebody."""
    rng, at = np.random.default_rng(0), np.arange(4 * count) * SECOND
    history = CustomerHistory(SETTINGS, count)
    who = rng.integers(0, count, 4 * count).astype(np.int32)
    signals = rng.random((4 * count, len(SETTINGS.signals))).astype(np.float32)
    met = KnownHandovers(
        rng.integers(0, 5, 4 * count).astype(np.int32), at, rng.integers(-1, 2, 4 * count).astype(np.int8),
        np.full(4 * count, np.nan, np.float32), np.zeros((4 * count, 0), np.float32), customer=who,
    )  # fmt: skip
    history.advance(Arrivals(who, at, signals), met, int(at[-1]) + 1)
    asked = np.where(np.arange(count) % 3 == 0, -1, np.arange(count))
    return CustomerRows(history.read(asked), signatures(["ada", "bob", "cy", "dee", "eve"]))


def test_the_customers_past_moves_what_is_said_of_a_contact(everything: ContactEncoder) -> None:
    known, unknown = everything.encode(columns(12), customers(12)), everything.encode(columns(12))
    moved = (known.profile != unknown.profile).any(axis=1)
    assert moved.tolist() == [i % 3 != 0 for i in range(12)]  # of nobody nothing is known either way
    np.testing.assert_array_equal(known.base, unknown.base)


def test_with_customers_rounds_do_not_show_and_alone_is_as_together(
    everything: ContactEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, past = columns(40), customers(40)
    whole = everything.encode(many, past)
    monkeypatch.setattr(sessions, "ROUND", 7)
    rounds = everything.encode(many, past)
    for name in CONTACT_OUTPUTS:
        np.testing.assert_array_equal(getattr(rounds, name), getattr(whole, name))
    for i in range(40):
        one = everything.encode_one({name: values[i] for name, values in many.items()}, past.part(i, 1))
        for name in CONTACT_OUTPUTS:
            np.testing.assert_array_equal(getattr(one, name)[0], getattr(whole, name)[i])


def test_an_empty_contact_has_vectors(encoder: ContactEncoder) -> None:
    one = encoder.encode_one({})
    assert all(np.isfinite(getattr(one, name)).all() for name in CONTACT_OUTPUTS)


def test_no_contacts_give_no_rows_of_the_right_width(encoder: ContactEncoder) -> None:
    none = encoder.encode({"intent_text": []})
    assert none.profile.shape == (0, fakes.PROFILE)
    assert len(none) == 0


def test_csas_encode_alone_as_together(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    encoder: CsaEncoder = bundle.csa_encoder
    features, identity = bundle.roster.features, bundle.roster.identity
    for found, whole in zip(
        encoder.encode(features, identity), (bundle.roster.vectors, bundle.roster.own), strict=True
    ):
        np.testing.assert_array_equal(found, whole)
    for found, whole in zip(
        encoder.encode(features[3:5], identity[3:5]), encoder.encode(features, identity), strict=True
    ):
        np.testing.assert_array_equal(found, whole[3:5])
    assert [part.shape for part in encoder.encode(features[:0], identity[:0])] == [
        (0, fakes.PROFILE),
        (0, len(TARGETS)),
    ]


def test_a_session_uses_one_thread_and_does_not_spin(bundle_folder: Path) -> None:
    session = open_session(bundle_folder / "contact_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_graph_with_other_outputs_is_refused(bundle_folder: Path) -> None:
    with pytest.raises(BundleError, match="inputs are features, identity, expected tokens, categories, numbers"):
        open_session(bundle_folder / "csa_tower.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="not a graph that onnxruntime can load"):
        open_session(tmp_path / "x.onnx", CONTACT_INPUTS, CONTACT_OUTPUTS)
