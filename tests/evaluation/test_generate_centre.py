"""A generated centre: deterministic, valid, and its logs are what its truth says they are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.generate.centre import generate
from evaluation.generate.latents import Latents
from evaluation.generate.settings import Settings
from evaluation.truth import Truth
from twotower.cli import main
from twotower.errors import ConfigError, OutputError
from twotower.files import sha256_file
from twotower.tables import Log

SETTINGS = Settings(8000, 90, seed=3, eligible=15, propensities=True)
SMALL = Settings(900, 24, seed=1, eligible=8, languages=("en", "de"))


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "centre"
    generate(SETTINGS, folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "small"
    generate(SMALL, folder)
    return folder


def read(folder: Path, table: str) -> pa.Table:
    return pq.read_table(folder / f"{table}.parquet")


def digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in sorted(folder.iterdir())}


def eligible_pairs(contacts: pa.Table) -> pa.Table:
    rows = pc.list_parent_indices(contacts["eligible"])
    return pa.table(
        {"contact_id": pc.take(contacts["contact_id"], rows), "csa_id": pc.list_flatten(contacts["eligible"])}
    )


def test_same_settings_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    generate(SMALL, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(small)
    assert len(digests(small)) == 7


def test_another_seed_is_another_world(small: Path, tmp_path: Path) -> None:
    generate(Settings(900, 24, seed=2, eligible=8, languages=("en", "de")), tmp_path / "other")
    ours, other = digests(small), digests(tmp_path / "other")
    assert all(ours[name] != other[name] for name in ours)


def test_the_tables_pass_check_and_load(centre: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(centre)]) == 0, capsys.readouterr().out
    log = Log.load(centre)
    assert len(log.contacts.ids) == SETTINGS.contacts
    assert (np.diff(log.contacts.arrived_at) >= 0).all()


def test_the_text_order_of_contact_ids_is_the_order_of_arrival(centre: Path) -> None:
    contacts = read(centre, "contacts").sort_by([("arrived_at", "ascending"), ("contact_id", "ascending")])
    assert contacts["contact_id"].to_pylist() == sorted(contacts["contact_id"].to_pylist())


def test_many_contacts_share_a_second(centre: Path) -> None:
    emails = read(centre, "contacts").filter(pc.field("channel") == "email")
    assert len(pc.unique(emails["arrived_at"])) < 0.97 * len(emails)


def test_truth_holds_every_eligible_pair_of_the_last_tenth_and_no_other(centre: Path) -> None:
    last = read(centre, "contacts").slice(SETTINGS.contacts - SETTINGS.contacts // 10)
    expected = set(map(tuple, zip(*(c.to_pylist() for c in eligible_pairs(last).columns), strict=True)))
    truth = read(centre, "truth")
    assert set(zip(truth["contact_id"].to_pylist(), truth["csa_id"].to_pylist(), strict=True)) == expected
    assert len(truth) == len(expected)


def test_probabilities_recomputed_from_the_latents_are_those_of_the_truth(centre: Path) -> None:
    latents, truth = Latents.load(centre / "truth.npz"), read(centre, "truth")
    contact = np.searchsorted(latents.contact_id, truth["contact_id"].to_numpy().astype(str))
    csa = np.searchsorted(latents.csa_id, truth["csa_id"].to_numpy().astype(str))
    np.testing.assert_allclose(latents.p_resolved(contact, csa), truth["p_resolved"].to_numpy(), rtol=0, atol=1e-6)


def test_the_formula_written_out_for_one_pair(centre: Path) -> None:
    latents = Latents.load(centre / "truth.npz")
    contact, csa = 7000, 11
    days = (latents.arrived_at[contact] - latents.hired_at[csa]) / 86_400e6
    tenure = 0.16 * (np.log1p(np.clip(days, 0, 1500) / 15) - np.log1p(365 / 15))
    logit = (
        1.25
        + 0.24 * float(latents.needs[contact] @ latents.theta[csa])
        + latents.quality[csa]
        + tenure
        + latents.upset[contact] * latents.handling[csa]
        - 0.9 * (1 - latents.fluency[csa, latents.language[contact]])
        - latents.difficulty[contact]
    )
    p = latents.p_resolved(np.array([contact]), np.array([csa]))[0]
    assert p == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


def test_outcomes_are_draws_from_the_true_probabilities(centre: Path) -> None:
    latents, log = Latents.load(centre / "truth.npz"), Log.load(centre)
    known = log.handovers.resolved >= 0
    p = latents.p_resolved(log.handovers.contact[known], log.handovers.csa[known])
    resolved = log.handovers.resolved[known].astype(float)
    for part in np.array_split(np.argsort(p), 10):
        error = np.sqrt((p[part] * (1 - p[part])).sum()) / len(part)
        assert abs(resolved[part].mean() - p[part].mean()) < 4 * error
    assert 0.62 < resolved.mean() < 0.74


def test_logged_propensities_are_the_softmax_over_the_eligible(centre: Path) -> None:
    contacts, latents = read(centre, "contacts"), Latents.load(centre / "truth.npz")
    pairs = eligible_pairs(contacts)
    contact = np.searchsorted(latents.contact_id, pairs["contact_id"].to_numpy().astype(str))
    csa = np.searchsorted(latents.csa_id, pairs["csa_id"].to_numpy().astype(str))
    weight = np.exp(latents.constant("queue_gamma") * latents.speed[csa].astype(float))
    total = np.bincount(contact, weight, len(latents.contact_id))
    first = read(centre, "interactions").group_by("contact_id", use_threads=False)
    first = first.aggregate([("csa_id", "first"), ("propensity", "first"), ("propensity", "sum")])
    at = np.searchsorted(latents.contact_id, first["contact_id"].to_numpy().astype(str))
    chosen = np.searchsorted(latents.csa_id, first["csa_id_first"].to_numpy().astype(str))
    expected = np.exp(latents.constant("queue_gamma") * latents.speed[chosen].astype(float)) / total[at]
    np.testing.assert_allclose(first["propensity_first"].to_numpy(), expected, rtol=1e-9)
    np.testing.assert_array_equal(latents.assigned[at], chosen)


def test_the_truths_propensities_sum_to_one(centre: Path) -> None:
    truth = Truth.load(centre)
    np.testing.assert_allclose(np.add.reduceat(truth.propensity, truth.offsets[:-1]), 1, rtol=1e-12)


def test_propensities_are_logged_only_on_request(small: Path) -> None:
    assert read(small, "interactions")["propensity"].null_count == len(read(small, "interactions"))


def test_whoever_is_chosen_was_eligible(centre: Path) -> None:
    contacts, interactions = read(centre, "contacts"), read(centre, "interactions")
    pairs = eligible_pairs(contacts).append_column("there", pa.array([True] * len(eligible_pairs(contacts))))
    joined = interactions.join(pairs, ["contact_id", "csa_id"])
    assert joined["there"].null_count == 0


def test_the_eligible_are_employed_on_shift_and_speak_the_language(centre: Path) -> None:
    contacts = read(centre, "contacts").slice(0, 1500)
    pairs = eligible_pairs(contacts).join(contacts.drop_columns(["eligible"]), "contact_id").to_pylist()
    csas = {row["csa_id"]: row for row in read(centre, "csas").to_pylist()}
    shifts: dict[str, list[tuple[object, object]]] = {}
    for row in read(centre, "shifts").to_pylist():
        shifts.setdefault(row["csa_id"], []).append((row["starts_at"], row["ends_at"]))
    assert len(pairs) > 10_000
    for pair in pairs:
        csa, when = csas[pair["csa_id"]], pair["arrived_at"]
        assert csa["hired_at"] <= when
        assert csa["left_at"] is None or when <= csa["left_at"]
        assert pair["language"] is None or pair["language"] in csa["languages"]
        assert any(start <= when < end for start, end in shifts[pair["csa_id"]])


def test_contacts_that_nobody_can_take_are_abandoned(small: Path) -> None:
    contacts = read(small, "contacts")
    nobody = pc.equal(pc.list_value_length(contacts["eligible"]), 0)
    assert pc.all(pc.equal(nobody, pc.is_valid(contacts["abandoned_at"]))).as_py()
    assert pc.sum(nobody).as_py() > 0
    handled = set(read(small, "interactions")["contact_id"].to_pylist())
    assert handled == set(contacts.filter(pc.invert(nobody))["contact_id"].to_pylist())


def test_a_transfer_is_a_second_handover_to_somebody_else(centre: Path) -> None:
    interactions = read(centre, "interactions")
    moved = interactions.filter(pc.field("transferred"))
    assert 0.03 < len(moved) / len(interactions) < 0.08
    assert not any(moved["resolved"].to_pylist())
    rows = interactions.sort_by([("contact_id", "ascending"), ("assigned_at", "ascending")]).to_pylist()
    pairs = [(a, b) for a, b in pairwise(rows) if a["contact_id"] == b["contact_id"]]
    assert len(pairs) == len(moved)
    for first, second in pairs:
        assert first["transferred"]
        assert not second["transferred"]
        assert second["csa_id"] != first["csa_id"]
        assert second["assigned_at"] > first["ended_at"]


def test_some_outcomes_come_late_and_some_never(centre: Path) -> None:
    interactions = read(centre, "interactions")
    assert 0.01 < interactions["resolved"].null_count / len(interactions) < 0.06
    known = interactions.filter(pc.is_valid(pc.field("resolved")))
    delay = pc.subtract(known["known_at"].cast(pa.int64()), known["ended_at"].cast(pa.int64())).to_numpy() / 3600e6
    assert 0.2 < (delay > 1).mean() < 0.5
    assert (delay >= 0).all()
    assert delay.max() <= 9 * 24


def test_resolved_only_logs_the_successes_of_the_same_centre(centre: Path, tmp_path: Path) -> None:
    generate(Settings(8000, 90, seed=3, eligible=15, propensities=True, resolved_only=True), tmp_path / "successes")
    ours, only = digests(centre), digests(tmp_path / "successes")
    assert {name for name in ours if ours[name] != only[name]} == {"interactions.parquet"}
    whole = read(centre, "interactions")
    assert read(tmp_path / "successes", "interactions").equals(whole.filter(pc.fill_null(whole["resolved"], False)))


def test_the_wanted_number_is_eligible_where_the_roster_allows(centre: Path, small: Path) -> None:
    assert pc.mean(pc.list_value_length(read(centre, "contacts")["eligible"])).as_py() == pytest.approx(15, rel=0.05)
    assert 2 < pc.mean(pc.list_value_length(read(small, "contacts")["eligible"])).as_py() < 8


def test_a_stopped_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Latents, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Latents, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        generate(SMALL, tmp_path / "centre")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "centre").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        generate(SMALL, tmp_path / "centre")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"languages": ("en", "xx")}, "no phrases for 'xx'; there are de, en, es, fr"),
        ({"languages": ("en", "en")}, "stands there twice"),
        ({"languages": ()}, "name at least one"),
        ({"contacts": 5}, "--contacts 5: must be at least 100"),
        ({"csas": 1}, "--csas 1"),
        ({"eligible": float("nan")}, "--eligible nan"),
        ({"days": 3}, "--days 3"),
        ({"seed": -1}, "--seed -1"),
        ({"until": "2026-07-01"}, "time zone"),
    ],
)
def test_impossible_settings_are_one_clear_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings(**{"contacts": 1000, "csas": 20, **options})  # type: ignore[arg-type]


def test_the_verb_reports_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "centre")
    options = ["--contacts", "500", "--csas", "20", "--languages", "fr", "--eligible", "6", "--output", folder]
    assert main(["generate", *options]) == 0
    assert "500 contacts" in capsys.readouterr().out
    assert main(["generate", *options]) == 1
    assert "exists already" in capsys.readouterr().err
