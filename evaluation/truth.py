"""How much of what precision matching could gain does a ranking capture?

    captured = (E p(model's first choice) − E p(queue)) / (E p(oracle) − E p(queue))

over the test contacts of a generated centre, p being the true probability of success. E p(queue) is the expectation
under the queue's own probabilities π₀(a | x) over the eligible, free of the noise of its draws; the mean over the
CSAs that it actually chose stands beside it as a check. The oracle takes the eligible CSA of the highest p. Intervals
come from resampling contacts, with all three means of a resample taken over the same contacts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evaluation.generate.latents import Latents
from twotower.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Ids = Any
"""pa.StringArray, pa.ChunkedArray, a numpy array or a list of strings."""


@dataclass(frozen=True)
class Captured:
    """Mean true probabilities of success under three ways of choosing, and the share of the uplift captured."""

    queue: float
    """Expected under the queue's probabilities."""
    realised: float
    """Mean over whom the queue actually chose."""
    model: float
    oracle: float
    captured: float
    low: float
    high: float
    """Bounds of the 95 % interval of `captured`."""
    contacts: int
    """Test contacts that were judged."""
    missing: int
    """Test contacts with an eligible CSA for which no choice was given."""
    outside: int
    """Choices for contacts that the truth does not hold."""
    abandoned: int
    """Test contacts that nobody could take; nothing can be chosen for them."""


@dataclass(frozen=True)
class Truth:
    """The eligible pairs of the test contacts, grouped by contact; contact i owns rows `offsets[i]:offsets[i + 1]`."""

    latents: Latents
    contact: Ints
    """(n,) positions in the centre of the test contacts that have an eligible CSA."""
    offsets: Ints
    """(n + 1,)."""
    csa: Ints
    """(pairs,) positions of CSAs, ascending within a contact."""
    p_resolved: Floats
    propensity: Floats
    """(pairs,) π₀."""

    @classmethod
    def load(cls, folder: str | Path) -> Truth:
        """Reads `truth.parquet` and `truth.npz` of a generated centre.

        Raises:
            DataError: a file is missing or damaged, or the two do not belong together.
        """
        folder = Path(folder)
        latents = Latents.load(folder / "truth.npz")
        table = _read(folder / "truth.parquet")
        contact = positions(table["contact_id"], latents.contact_id, f"{folder / 'truth.parquet'}: contact_id")
        csa = positions(table["csa_id"], latents.csa_id, f"{folder / 'truth.parquet'}: csa_id")
        order = np.lexsort((csa, contact))
        contact, csa = contact[order], csa[order]
        p_resolved = table["p_resolved"].to_numpy()[order]
        contacts, first = np.unique(contact, return_index=True)
        offsets = np.append(first, len(contact)).astype(np.int64)
        weight = np.exp(latents.constant("queue_gamma") * latents.speed[csa].astype(np.float64))
        propensity = weight / np.repeat(np.add.reduceat(weight, offsets[:-1]), np.diff(offsets))
        return cls(latents, contacts, offsets, csa, p_resolved, propensity)

    @property
    def rows(self) -> Ints:
        """(pairs,) which of `contact` each pair belongs to."""
        return np.repeat(np.arange(len(self.contact)), np.diff(self.offsets))

    def captured_by_choices(self, contact_id: Ids, csa_id: Ids, resamples: int = 1000, seed: int = 0) -> Captured:
        """The uplift captured by one chosen CSA per contact.

        Args:
            contact_id: (m,) contacts; those outside the test are counted and left out.
            csa_id: (m,) the CSA ranked first among the eligible.
            resamples: bootstrap resamples of the contacts.
            seed: of the bootstrap.

        Raises:
            DataError: a contact stands there twice, a chosen CSA was not eligible, or no test contact was judged.
        """
        contact, inside = _match(contact_id, self.latents.contact_id[self.contact])
        csa, known = _match(csa_id, self.latents.csa_id)
        names = _array(contact_id), _array(csa_id)
        repeated = np.flatnonzero(np.bincount(contact[inside], minlength=1) > 1)
        if len(repeated):
            name = self.latents.contact_id[self.contact[repeated[0]]]
            raise DataError(f"choices: contact {name} has more than one; give one CSA per contact")
        pair = self._pairs(contact, np.where(known, csa, -1))
        wrong = np.flatnonzero(inside & (pair < 0))
        if len(wrong):
            first = int(wrong[0])
            raise DataError(
                f"choices: CSA {names[1][first]} was not eligible for contact {names[0][first]} ({len(wrong)} such "
                "choices); rank only the CSAs in the contact's eligible list"
            )
        if not inside.any():
            raise DataError("choices: none is for a test contact of this centre; match the contacts of its last tenth")
        return self._judge(contact[inside], pair[inside], int((~inside).sum()), resamples, seed)

    def captured_by_scores(
        self, contact_id: Ids, csa_id: Ids, score: Floats, resamples: int = 1000, seed: int = 0
    ) -> Captured:
        """The uplift captured by taking the highest score of each contact; the first of the CSA ids breaks ties.

        All arguments are (m,), one row per scored pair. Raises as `captured_by_choices`.
        """
        contacts, csas = _array(contact_id), _array(csa_id)
        order = np.lexsort((csas, -np.asarray(score, dtype=np.float64), contacts))
        ordered = contacts[order]
        best = order[np.append(True, ordered[1:] != ordered[:-1])] if len(order) else order
        return self.captured_by_choices(contacts[best], csas[best], resamples, seed)

    def captured_by_pairs(self, score: Floats, resamples: int = 1000, seed: int = 0) -> Captured:
        """The same from scores in the order of this truth's own pairs, (pairs,)."""
        rows = self.rows
        order = np.lexsort((self.csa, -np.asarray(score, dtype=np.float64), rows))
        return self._judge(np.arange(len(self.contact)), order[self.offsets[:-1]], 0, resamples, seed)

    def _pairs(self, contact: Ints, csa: Ints) -> Ints:
        """(m,) rows of the given pairs (positions in `contact` and of CSAs), −1 where there is no such pair."""
        size = len(self.latents.csa_id)
        keys = self.rows * size + self.csa
        wanted = np.where((contact >= 0) & (csa >= 0), contact * size + csa, -1)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, at, -1)

    def _judge(self, contact: Ints, pair: Ints, outside: int, resamples: int, seed: int) -> Captured:
        queue = np.add.reduceat(self.propensity * self.p_resolved, self.offsets[:-1])[contact]
        oracle = np.maximum.reduceat(self.p_resolved, self.offsets[:-1])[contact]
        model = self.p_resolved[pair]
        realised = self.p_resolved[self._pairs(contact, self.latents.assigned[self.contact[contact]].astype(np.int64))]
        low, high = _interval(np.stack([queue, model, oracle]), resamples, seed)
        tests = len(self.latents.contact_id) - int(self.latents.test_begins[0])
        return Captured(
            queue=float(queue.mean()),
            realised=float(realised.mean()),
            model=float(model.mean()),
            oracle=float(oracle.mean()),
            captured=float(_share(queue.mean(), model.mean(), oracle.mean())),
            low=low,
            high=high,
            contacts=len(contact),
            missing=len(self.contact) - len(contact),
            outside=outside,
            abandoned=tests - len(self.contact),
        )


def _share(queue: Any, model: Any, oracle: Any) -> Any:
    """(model − queue) / (oracle − queue), NaN where the oracle gains nothing."""
    gain = oracle - queue
    return np.where(gain > 0, (model - queue) / np.where(gain > 0, gain, 1), np.nan)


def _interval(means: Floats, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the captured share; `means` is (3, n), a row each for queue, model and oracle."""
    random = np.random.default_rng(seed)
    n = means.shape[1]
    shares = np.empty(resamples)
    for resample in range(resamples):
        shares[resample] = _share(*means[:, random.integers(0, n, n)].mean(axis=1))
    low, high = np.nanpercentile(shares, [2.5, 97.5])
    return float(low), float(high)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, columns=["contact_id", "csa_id", "p_resolved"])
    except FileNotFoundError:
        raise DataError(f"{path}: not found; only a centre made by `twotower generate` has it") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}); generate the centre again") from None


def _array(ids: Ids) -> npt.NDArray[np.str_]:
    return np.asarray(ids.to_pylist() if isinstance(ids, pa.Array | pa.ChunkedArray) else ids).astype(str)


def _match(ids: Ids, known: npt.NDArray[np.str_]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(m,) positions of ids in `known`, −1 where absent, and whether each is there."""
    wanted = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(np.asarray(ids).astype(str), pa.string())
    found = pc.index_in(wanted.cast(pa.string()), value_set=pa.array(known, pa.string()))
    at = np.asarray(pc.fill_null(found, -1).to_numpy()).astype(np.int64)
    return at, at >= 0


def positions(ids: Any, known: npt.NDArray[np.str_], where: str) -> Ints:
    """(m,) positions of ids in `known`; a DataError that begins with `where` names one that is not there."""
    found, there = _match(ids, known)
    if not there.all():
        missing = ids[int(np.flatnonzero(~there)[0])].as_py()
        raise DataError(f"{where} {missing!r} is not in truth.npz; both files must come from one centre")
    return found
