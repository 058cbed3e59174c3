"""Many contacts and CSAs through a bundle's towers, round by round, by an engine.

Notable: a round travels to whoever encodes it, the bundle does not: each process opens the folder itself, once, and
takes no other bundle for it. Rows are encoded one by one (`sessions.py`), so neither the rounds nor where they run are
told by any bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from twotower.bundle.bundle import Bundle
from twotower.bundle.sessions import CONTACT_OUTPUTS, ROUND, Encoded, Floats, Integers
from twotower.engines import Engine
from twotower.progress import track

Columns = Mapping[str, Any]


def encoded(engine: Engine, bundle: Bundle, rounds: Iterable[Columns]) -> Iterator[Encoded]:
    """Vectors of each round of contacts; columns as in `ContactEncoder.encode`, without their customers' past."""
    return engine.map(partial(_contacts, str(bundle.path.absolute()), bundle.manifest.id), rounds)


def encoded_columns(engine: Engine, bundle: Bundle, columns: Columns) -> Encoded:
    """The same of columns of equal length N > 0, in one piece."""
    size = len(next(iter(columns.values())))
    rounds = ({name: _part(values, i) for name, values in columns.items()} for i in range(0, size, ROUND))
    found = list(track(encoded(engine, bundle, rounds), "encoding contacts", -(-size // ROUND), "round"))
    return Encoded(*(np.concatenate([getattr(one, name) for one in found]) for name in CONTACT_OUTPUTS))


def csa_vectors(engine: Engine, bundle: Bundle, features: Floats, identity: Integers) -> Floats:
    """Profile vectors (J, P) of CSA features (J, G) and identities (J,)."""
    work = partial(_csas, str(bundle.path.absolute()), bundle.manifest.id)
    rounds = ((features[i : i + ROUND], identity[i : i + ROUND]) for i in range(0, len(identity), ROUND))
    return np.concatenate(list(track(engine.map(work, rounds), "encoding CSAs", -(-len(identity) // ROUND), "round")))


@lru_cache(maxsize=1)
def _opened(path: str, digest: str) -> Bundle:
    return Bundle.open(path, digest)


def _contacts(path: str, digest: str, columns: Columns) -> Encoded:
    return _opened(path, digest).contact_encoder.encode(columns, quiet=True)


def _csas(path: str, digest: str, given: tuple[Floats, Integers]) -> npt.NDArray[np.float32]:
    return _opened(path, digest).csa_encoder.encode(*given)[0]


def _part(values: Any, start: int) -> Any:
    """A round of a column, with nothing of the others behind it that would travel along."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.take(pa.array(np.arange(start, min(start + ROUND, len(values)))))
    return values[start : start + ROUND]
