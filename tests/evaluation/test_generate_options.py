"""Harder worlds: each option does what it says, the truth stays right, and what is left out changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from evaluation.generate.catalogue import INTENTS
from evaluation.generate.centre import generate
from evaluation.generate.drift import week_of
from evaluation.generate.latents import Latents
from evaluation.generate.launches import launches
from evaluation.generate.noise import garbled
from evaluation.generate.settings import Settings
from evaluation.truth import Truth
from twotower.cli import main
from twotower.clock import DAY
from twotower.errors import ConfigError
from twotower.files import sha256_file

PLAIN = Settings(3000, 40, seed=4, eligible=10, languages=("en",), propensities=True)
HARD = replace(PLAIN, confounding=2.0, joiners=0.4, joiner_contacts=(0, 8, 25), drift=0.6, noise=0.2)
FROZEN = {
    "contacts": "cfb64b7aacfccf00",
    "csas": "9a335a079595e1ca",
    "customers": "86ecc19361081015",
    "interactions": "7ab87975bf5263b5",
    "shifts": "8330924c90b2d126",
    "truth": "50ae6db3d354b746",
    "truth.npz": "d34f71d07dca24e8",
}
"""What the tables of a centre held before there was any of these options (docs/decisions/0001)."""

Made = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A centre with some options changed, each generated once."""
    there: dict[Settings, Path] = {}

    def make(of: Settings = PLAIN, **options: Any) -> Path:
        settings = replace(of, **options)
        if settings not in there:
            there[settings] = tmp_path_factory.mktemp("options") / "centre"
            generate(settings, there[settings])
        return there[settings]

    return make


def read(folder: Path, table: str) -> pa.Table:
    return pq.read_table(folder / f"{table}.parquet")


def digests(folder: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in sorted(folder.iterdir())}


def content(folder: Path) -> dict[str, str]:
    """Digests of what the files hold, with six digits of floats: the bytes of Parquet depend on who writes it."""

    def line(row: dict[str, Any]) -> str:
        return repr([f"{value:.6g}" if isinstance(value, float) else value for value in row.values()])

    found = {}
    for file in sorted(folder.glob("*.parquet")):
        text = "\n".join(map(line, pq.read_table(file).to_pylist()))
        found[file.stem] = hashlib.sha256(text.encode()).hexdigest()[:16]
    with np.load(folder / "truth.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    thousandths = {n: np.round(a * 1000.0).astype(np.int64) if a.dtype.kind == "f" else a for n, a in arrays.items()}
    parts = [f"{name} {array.dtype} {thousandths[name].tolist()}" for name, array in arrays.items()]
    return found | {"truth.npz": hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]}


def assigned_before_the_test(folder: Path) -> npt.NDArray[np.int64]:
    """(J,) first hand-overs of each CSA before the test."""
    latents = Latents.load(folder / "truth.npz")
    assigned = latents.assigned[: latents.test_begins[0]]
    return np.bincount(assigned[assigned >= 0], minlength=len(latents.csa_id))


def test_without_options_a_centre_is_the_frozen_one(tmp_path: Path) -> None:
    generate(Settings(400, 12, seed=1, eligible=4, languages=("en", "de"), propensities=True), tmp_path / "centre")
    assert content(tmp_path / "centre") == FROZEN


def test_the_options_named_at_their_defaults_change_no_byte(made: Made, tmp_path: Path) -> None:
    words = "--confounding 1 --joiners 0 --joiner-contacts 5,9 --drift 0 --noise 0 --propensity-error 0"
    sizes = "--contacts 3000 --csas 40 --seed 4 --eligible 10 --languages en --propensities"
    assert main(["generate", *sizes.split(), *words.split(), "--output", str(tmp_path / "named")]) == 0
    assert digests(tmp_path / "named") == digests(made())


def test_the_same_options_give_the_same_bytes(made: Made, tmp_path: Path) -> None:
    settings = replace(HARD, propensity_error=0.5)
    generate(settings, tmp_path / "again")
    assert digests(tmp_path / "again") == digests(made(settings))


def test_the_tables_of_a_hard_world_pass_check(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(made(HARD))]) == 0, capsys.readouterr().out


def test_the_truth_of_a_hard_world_is_what_its_outcomes_were_drawn_from(made: Made) -> None:
    folder = made(HARD, contacts=12_000)
    latents, truth = Latents.load(folder / "truth.npz"), Truth.load(folder)
    again = latents.p_resolved(truth.contact[truth.rows], truth.csa)
    np.testing.assert_allclose(again, truth.p_resolved, rtol=0, atol=1e-12)
    rows = read(folder, "interactions").filter(pc.is_valid(pc.field("resolved")))
    contact, csa = (
        np.searchsorted(getattr(latents, name), rows[name].to_numpy().astype(str)) for name in ("contact_id", "csa_id")
    )
    p, resolved = latents.p_resolved(contact, csa), rows["resolved"].to_numpy().astype(float)
    for part in np.array_split(np.argsort(p), 10):
        error = np.sqrt((p[part] * (1 - p[part])).sum()) / len(part)
        assert abs(resolved[part].mean() - p[part].mean()) < 4 * error


def test_propensities_of_a_hard_world_are_those_of_the_truth(made: Made) -> None:
    folder = made(HARD)
    truth = Truth.load(folder)
    rows = read(folder, "interactions").group_by("contact_id", use_threads=False)
    first = rows.aggregate([("csa_id", "first"), ("propensity", "first")])
    logged = {(row["contact_id"], row["csa_id_first"]): row["propensity_first"] for row in first.to_pylist()}
    pairs = zip(truth.latents.contact_id[truth.contact[truth.rows]], truth.latents.csa_id[truth.csa], strict=True)
    told = np.array([logged.get((str(contact), str(csa)), np.nan) for contact, csa in pairs])
    assert (~np.isnan(told)).sum() == len(truth.contact)
    np.testing.assert_allclose(told[~np.isnan(told)], truth.propensity[~np.isnan(told)], rtol=1e-9)


def test_confounding_gives_the_worse_more_of_the_work(made: Made) -> None:
    def quality_at_work(folder: Path) -> float:
        return float(np.average(Latents.load(folder / "truth.npz").quality, weights=assigned_before_the_test(folder)))

    none, usual, strong = (quality_at_work(made(confounding=times)) for times in (0.0, 1.0, 3.0))
    assert strong < usual - 0.1 < none - 0.15
    assert Latents.load(made(confounding=3.0) / "truth.npz").constant("queue_gamma") == pytest.approx(1.8)
    plain, other = digests(made()), digests(made(confounding=3.0))
    assert plain["csas.parquet"] == other["csas.parquet"]


def test_joiners_have_been_given_what_was_asked_when_the_test_begins(made: Made) -> None:
    sizes = replace(PLAIN, contacts=8000)
    folder = made(sizes, joiners=0.45, joiner_contacts=(0, 20, 50))
    plain, latents = Latents.load(made(sizes) / "truth.npz"), Latents.load(folder / "truth.npz")
    joined = latents.hired_at != plain.hired_at
    assert joined.sum() == round(0.45 * 40)
    begins = latents.arrived_at[latents.test_begins[0]]
    assert (latents.hired_at[joined] < begins).all()
    had = assigned_before_the_test(folder)[joined]
    arrived = read(folder, "contacts").select(["contact_id", "arrived_at"])
    rows = read(folder, "interactions").join(arrived, "contact_id")
    before = rows.filter(pc.less(rows["arrived_at"].cast(pa.int64()), int(begins)))
    handovers = np.array([pc.sum(pc.equal(before["csa_id"], name)).as_py() for name in latents.csa_id[joined]])
    assert (handovers == had).all()  # no transfers beside what they were given
    assert (had == 0).sum() == 6
    assert (had == 20).sum() >= 4
    assert (had == 50).sum() >= 4
    assert had.max() == 50
    offered = np.bincount(Truth.load(folder).csa, minlength=40)[joined]
    assert (offered > 0).all()


def test_joiners_leave_needs_and_outcomes_of_the_rest_of_the_world_alone(made: Made) -> None:
    plain, other = (Latents.load(made(**options) / "truth.npz") for options in ({}, {"joiners": 0.3}))
    for name in ("needs", "theta", "quality", "speed", "prior_mean"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(other, name))


def test_skills_drift_about_the_prior_and_the_truth_is_of_the_contacts_week(made: Made) -> None:
    settings = replace(PLAIN, csas=300, drift=0.6)
    latents = Latents.load(made(settings) / "truth.npz")
    assert latents.skills is not None
    assert latents.week is not None
    own = latents.skills - latents.prior_mean[:, : latents.theta.shape[1]]
    assert np.corrcoef(own[0].ravel(), own[-1].ravel())[0, 1] == pytest.approx(0.4, abs=0.05)
    np.testing.assert_allclose(own.std(axis=(1, 2)), latents.prior_sd[0], rtol=0.05)
    np.testing.assert_array_equal(latents.week, week_of(settings, latents.arrived_at))
    test = latents.test_begins[0]
    np.testing.assert_array_equal(latents.theta, latents.skills[latents.week[test]])
    early, late, csa = np.array([0]), np.array([len(latents.week) - 1]), np.array([7])
    for contact in (early, late):
        moved = latents.skills[latents.week[contact[0]], 7] - latents.theta[7]
        expected = latents.logit(contact, csa, latents.unknowns()) + 0.24 * float(latents.needs[contact[0]] @ moved)
        np.testing.assert_allclose(latents.logit(contact, csa), expected, atol=1e-5)


def test_what_contacts_are_about_drifts(made: Made) -> None:
    def moved(folder: Path) -> float:
        """Total variation between the intents of the first and of the last sixth."""
        labels = read(folder, "contacts")["intent"].to_pylist()
        ends = [np.unique([str(label) for label in part], return_counts=True) for part in (labels[:500], labels[-500:])]
        shares = [dict(zip(names, counts / 500, strict=True)) for names, counts in ends]
        names = {*shares[0], *shares[1]}
        return float(sum(abs(shares[0].get(name, 0) - shares[1].get(name, 0)) for name in names) / 2)

    assert moved(made(drift=0.9)) > moved(made()) + 0.05


def test_noise_hits_the_stated_share_of_words_and_labels(made: Made) -> None:
    plain, noisy = read(made(), "contacts"), read(made(noise=0.3), "contacts")
    for name in ("intent_text", "transcript"):
        pairs = zip(plain[name].to_pylist(), noisy[name].to_pylist(), strict=True)
        words = [(set(one.split()), set(two.split())) for one, two in pairs if one]
        lost = sum(len(one - two) for one, two in words) / sum(len(one) for one, _ in words)
        assert 0.2 < lost < 0.3  # of distinct words: some stand there twice, some have no second letter
    null = noisy["intent"].null_count / len(noisy)
    assert null == pytest.approx(1 - 0.9 * 0.7, abs=0.03)
    rest = [name for name in plain.column_names if name not in ("intent", "intent_text", "transcript")]
    assert plain.select(rest).equals(noisy.select(rest))
    assert digests(made())["truth.parquet"] == digests(made(noise=0.3))["truth.parquet"]


def test_garbled_texts_keep_their_lines_and_what_is_empty() -> None:
    texts = pa.array(["one two three four\nfive six seven eight", "", None, "alone"] * 500)
    random = np.random.default_rng(0)
    found = garbled(texts, 0.5, random).to_pylist()
    assert len(found) == 2000
    assert {text.count("\n") for text in found[::4]} == {1}
    assert set(found[1::4]) == {""}
    assert set(found[2::4]) == {None}
    words = np.array([len(text.split()) for text in found[::4]])
    assert words.mean() == pytest.approx(8 * (1 - 0.5 / 4), abs=0.2)
    assert garbled(texts, 0.0, random).equals(texts)
    assert garbled(pa.array(["", ""]), 0.5, random).to_pylist() == ["", ""]


def test_wrong_propensities_are_logged_and_nothing_else_changes(made: Made) -> None:
    plain, wrong = made(), made(propensity_error=0.8)
    changed = {name for name, digest in digests(plain).items() if digests(wrong)[name] != digest}
    assert changed == {"interactions.parquet"}
    one, two = read(plain, "interactions"), read(wrong, "interactions")
    assert one.drop_columns(["propensity"]).equals(two.drop_columns(["propensity"]))
    error = np.log(two["propensity"].to_numpy() / one["propensity"].to_numpy())
    assert 0.5 < error.std() < 1.0
    csa = one["csa_id"].to_numpy()
    often = [error[csa == name] for name in np.unique(csa) if (csa == name).sum() > 60]
    assert np.std([part.mean() for part in often]) > 0.3  # part of it is the CSA's and does not average out
    assert two["propensity"].to_numpy().max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confounding": -1.0}, "--confounding -1.0: must be between 0 and 10"),
        ({"confounding": float("nan")}, "--confounding nan: must be between 0 and 10"),
        ({"joiners": 0.7}, "--joiners 0.7: must be between 0 and 0.6"),
        ({"drift": 1.0}, "--drift 1.0: must be between 0 and 0.99"),
        ({"noise": 1.5}, "--noise 1.5: must be between 0 and 1"),
        ({"propensity_error": 9.0}, "--propensity-error 9.0: must be between 0 and 5"),
        ({"joiner_contacts": ()}, "--joiner-contacts '': numbers from 0 with commas between were expected"),
        ({"joiner_contacts": (3, -1)}, "--joiner-contacts '3,-1': numbers from 0 with commas between were expected"),
        (
            {"propensity_error": 0.5, "propensities": False},
            "--propensity-error 0.5: needs --propensities, which it falsifies",
        ),
    ],
)
def test_impossible_options_are_refused_in_a_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        replace(PLAIN, **options)
    assert str(refused.value) == message


def test_the_command_refuses_what_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--contacts", "200", "--csas", "12", "--output", str(tmp_path / "never")]
    assert main([*words, "--joiners", "0.2", "--joiner-contacts", "0,many"]) != 0
    assert "--joiner-contacts '0,many': numbers from 0" in capsys.readouterr().err
    assert not (tmp_path / "never").exists()


def test_launches_are_new(tmp_path: Path) -> None:
    """Nobody asks before the day; then many do, and with a product that nobody had."""
    plain = Settings(contacts=3000, csas=20, languages=("en",), seed=1, days=60)
    with_some = replace(plain, launches=3, launch_days=20)
    generate(plain, tmp_path / "plain")
    generate(with_some, tmp_path / "some")
    tables = [pq.read_table(tmp_path / name / "contacts.parquet") for name in ("plain", "some")]
    intent, moment = launches(with_some)
    assert len(set((intent // 4).tolist())) == 3
    names = [INTENTS[code] for code in intent]
    arrived = tables[1]["arrived_at"].cast(pa.int64()).to_numpy()
    said = np.array(tables[1]["intent"].to_pylist(), dtype=object)
    for name, at in zip(names, moment.tolist(), strict=True):
        mine = said == name
        # One label in twenty is wrong.
        assert mine[arrived < at].mean() < 0.01
        assert mine[(arrived >= at) & (arrived < at + 7 * DAY)].mean() > 0.04
    before = arrived < int(moment.min())
    assert tables[0]["arrived_at"].equals(tables[1]["arrived_at"])
    assert (np.array(tables[0]["intent"].to_pylist(), dtype=object)[before] == said[before]).mean() > 0.8
