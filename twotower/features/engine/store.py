"""States on disk: the CSAs' part goes into the bundle, the customers' part into a store of its own that can forget.

Notable: both are uncompressed npz files of plain arrays (nothing is unpickled), written whole or not at all, and the
same state gives the same bytes. The customers' store holds no customer id: rows stand under keyed BLAKE2b digests
(Aumasson et al., 2013; RFC 7693) with a secret that the caller keeps elsewhere, sorted by them, so that without the
secret neither a name nor the order of arrival can be read from it. CSAs are named only where somebody remembers them,
so a customer who is erased does not leave a name behind either. The secret itself is checked by a digest of a constant,
since with a wrong one every customer would silently be new.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from twotower.clock import NULL_TIME
from twotower.errors import BundleError, ConfigError, DataError, TwoTowerError
from twotower.features.engine.core import TWIN, Core
from twotower.features.engine.csa import CsaHistory
from twotower.features.engine.customers import PER_CUSTOMER, CustomerHistory
from twotower.features.engine.settings import CsaSettings, CustomerSettings, from_bytes, to_bytes
from twotower.files import atomic_file

Codes = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

VERSION = 1
DIGEST = 16  # bytes of a customer's key: two of 10^9 customers share one with probability 10^-21
LEAST_SECRET = 16  # bytes
AT_ONCE = 256  # positions that are made where none is left
_CHECK = b"twotower customers' store"


def save_csas(history: CsaHistory, path: Path | str) -> None:
    """Write the CSAs' state (`features.state`)."""
    write_state(path, "csas", {"settings": to_bytes(history.settings), **history.state()})


def load_csas(path: Path | str, core: Core = TWIN) -> CsaHistory:
    """Resume what `save_csas` wrote. Raises BundleError where the file is not such a state."""
    arrays = read_state(path, "csas")
    try:
        return CsaHistory.restored(from_bytes(CsaSettings, arrays["settings"]), arrays, core)
    except (KeyError, TypeError, ValueError, IndexError, TwoTowerError) as error:
        raise BundleError(f"{path}: not a saved history of csas ({error})") from None


class Room:
    """Memory behind columns of an object, with rows to spare: adding rows then writes these alone.

    names: attributes of the object, arrays over the same rows; what is added becomes views of more of the memory. Rows
    that are not in use yet take address space and, where the system gives memory on first use, no memory.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._whole: dict[str, npt.NDArray[Any]] = {}

    def spare(self, owner: object) -> None:
        """Leave room for as many rows again as there are, unless there is room for half as many."""
        for name in self._names:
            rows = len(getattr(owner, name))
            self._extended(owner, name, rows + rows // 2)

    def add(self, owner: object, more: object) -> None:
        """Add the rows of an object alike; where they do not fit, all move to memory for twice those there."""
        for name in self._names:
            have, added = getattr(owner, name), getattr(more, name)
            rows = len(have) + len(added)
            whole = self._extended(owner, name, rows)
            whole[len(have) : rows] = added
            setattr(owner, name, whole[:rows])

    def _extended(self, owner: object, name: str, rows: int) -> npt.NDArray[Any]:
        """The memory of a column, of so many rows at least."""
        have: npt.NDArray[Any] = getattr(owner, name)
        whole = self._whole.get(name)
        if whole is None or have.base is not whole or len(whole) < rows:
            whole = self._whole[name] = np.zeros((max(rows, 2 * len(have)), *have.shape[1:]), have.dtype)
            whole[: len(have)] = have
            setattr(owner, name, whole[: len(have)])
        return whole


class CustomerStore:
    """Customers under keyed hashes, and what is known of them.

    secret: 16 to 64 bytes, the caller's to keep; csa_ids: whose positions the pairings name. `history` works on the
    positions that `codes` gives. Raises ConfigError for a secret of another length.
    """

    def __init__(
        self,
        secret: bytes,
        settings: CustomerSettings,
        csa_ids: Sequence[str],
        moment: int = NULL_TIME,
        core: Core = TWIN,
    ) -> None:
        if not LEAST_SECRET <= len(secret) <= hashlib.blake2b.MAX_KEY_SIZE:
            raise ConfigError(
                f"customers' secret: {len(secret)} bytes; {LEAST_SECRET} to {hashlib.blake2b.MAX_KEY_SIZE} are expected"
            )
        self._secret = secret
        self.csa_ids = list(csa_ids)
        self._csa = {csa_id: code for code, csa_id in enumerate(self.csa_ids)}
        self.history = CustomerHistory(settings, 0, moment, core)
        self._code: dict[bytes, int] = {}
        self._free: list[int] = []
        self._room = Room(PER_CUSTOMER)

    def __len__(self) -> int:
        return len(self._code)

    def key(self, customer_id: str) -> bytes:
        """What a customer stands under, `DIGEST` bytes."""
        # Ids come from users' exports, where a lone surrogate is possible.
        return self._digest(b"id:" + customer_id.encode("utf-8", "surrogatepass"))

    def codes(self, customer_ids: Sequence[str | None], add: bool = False) -> Codes:
        """Positions (N,) of customers in `history`, −1 for None and for those not there; with `add` these get one."""
        found = np.full(len(customer_ids), -1, np.int32)
        for i, customer_id in enumerate(customer_ids):
            if customer_id is not None:
                key = self.key(customer_id)
                found[i] = self._code.get(key, -1) if not add else self._placed(key)
        return found

    def csa(self, csa_id: str) -> int:
        """The position of a CSA, who gets one where they have none."""
        code = self._csa.setdefault(csa_id, len(self.csa_ids))
        if code == len(self.csa_ids):
            self.csa_ids.append(csa_id)
        return code

    def erase(self, customer_id: str) -> bool:
        """Forget a customer; False where nothing was known. `save` afterwards, and the file knows nothing either."""
        return self.erase_key(self.key(customer_id)) >= 0

    def erase_key(self, key: bytes) -> int:
        """Forget the customer of a key; their position, −1 where nothing was known.

        It stays empty until the store is loaded again, so that nobody is taken for somebody else. Sums of CSAs stay as
        they are: they are totals over everyone and name nobody.
        """
        code = self._code.pop(key, -1)
        if code >= 0:
            self.history.forget(code)
        return code

    def spare(self) -> None:
        """Leave room for customers to come, so that a new one need not move those who are there."""
        self._room.spare(self.history)

    def copy(self) -> CustomerStore:
        """The same, which goes its own way: a copy of each array, and nothing is computed."""
        twin, history = copy(self), copy(self.history)
        history.decay, history.pair_decay = copy(history.decay), copy(history.pair_decay)
        for name in PER_CUSTOMER:
            setattr(history, name, getattr(history, name).copy())
        twin.history, twin.csa_ids, twin._csa = history, list(self.csa_ids), dict(self._csa)
        twin._code, twin._free, twin._room = dict(self._code), list(self._free), Room(PER_CUSTOMER)
        return twin

    def order(self) -> Longs:
        """Positions (C,) of the customers in `history`, in the order of their keys."""
        keys, positions = self._keys()
        halves = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)  # in the order of the bytes
        return np.asarray(positions[np.lexsort((halves[:, 1], halves[:, 0]))])

    def state(self, order: Longs, also: Codes | None = None) -> tuple[dict[str, npt.NDArray[Any]], Codes]:
        """All that `restored` needs, as arrays without objects, and the saved positions (J + 1,) of CSAs (the last
        answers for −1). order: of `order()`; also: positions of CSAs who are named beside those of the pairings."""
        state = self.history.state()
        state.update({name: state[name][order] for name in PER_CUSTOMER})
        named = state["pair_csa"].ravel() if also is None else np.append(state["pair_csa"], also)
        used = sorted(np.unique(named[named >= 0]).tolist(), key=lambda code: self.csa_ids[code])
        place = np.full(len(self.csa_ids) + 1, -1, np.int32)
        place[used] = np.arange(len(used))
        keys, positions = self._keys()
        row = np.empty(self.history.customers, np.int64)
        row[positions] = np.arange(len(positions))
        return {
            "settings": to_bytes(self.history.settings),
            "check": np.frombuffer(self._digest(_CHECK), np.uint8),
            "keys": keys[row[order]],
            "csa_ids": np.frombuffer(json.dumps([self.csa_ids[code] for code in used]).encode(), np.uint8),
            **state,
            "pair_csa": place[state["pair_csa"]],
        }, place

    @classmethod
    def restored(
        cls,
        arrays: dict[str, npt.NDArray[Any]],
        secret: bytes,
        csa_ids: Sequence[str] | None = None,
        core: Core = TWIN,
    ) -> CustomerStore:
        """The inverse of `state`; csa_ids as of `load`. Raises ConfigError for another secret, KeyError, ValueError,
        TypeError, IndexError or DataError where the arrays are not such a state."""
        settings = from_bytes(CustomerSettings, arrays["settings"])
        saved: list[str] = json.loads(arrays["csa_ids"].tobytes())
        store = cls(secret, settings, _joined(saved if csa_ids is None else csa_ids, saved))
        if not hmac.compare_digest(store._digest(_CHECK), arrays["check"].tobytes()):
            raise ConfigError("written with another secret; give the one it was written with")
        # The last answers for −1, an empty place.
        place = np.array([*(store._csa[csa_id] for csa_id in saved), -1], np.int32)
        store.history = CustomerHistory.restored(settings, {**arrays, "pair_csa": place[arrays["pair_csa"]]}, core)
        keys = arrays["keys"]
        if keys.dtype != np.uint8 or keys.shape != (store.history.customers, DIGEST):
            raise DataError(f"keys {keys.dtype}{keys.shape} for {store.history.customers} customers")
        store._code = {key.tobytes(): i for i, key in enumerate(keys)}
        return store

    def save(self, path: Path | str) -> None:
        """Write the store; rows stand in the order of their keys."""
        write_state(path, "customers", self.state(self.order())[0])

    @classmethod
    def load(
        cls, path: Path | str, secret: bytes, csa_ids: Sequence[str] | None = None, core: Core = TWIN
    ) -> CustomerStore:
        """Resume what `save` wrote, with pairings in positions of `csa_ids` (None: of those remembered).

        CSAs whom the store remembers and `csa_ids` lacks follow it in `CustomerStore.csa_ids`, so nothing is lost.
        Raises ConfigError for another secret, BundleError where the file is not such a store.
        """
        with refused(path, "customers"):
            return cls.restored(read_state(path, "customers"), secret, csa_ids, core)

    def _placed(self, key: bytes) -> int:
        code = self._code.get(key)
        if code is None:
            if not self._free:
                have = self.history.customers
                self._room.add(self.history, CustomerHistory(self.history.settings, AT_ONCE))
                self._free.extend(range(self.history.customers - 1, have - 1, -1))
            code = self._code[key] = self._free.pop()
        return code

    def _keys(self) -> tuple[npt.NDArray[np.uint8], Longs]:
        """Keys (C, DIGEST) and positions (C,) of the customers, in the order in which they came."""
        keys = np.frombuffer(b"".join(self._code), np.uint8).reshape(len(self), DIGEST)
        return keys, np.fromiter(self._code.values(), np.int64, len(self))

    def _digest(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, digest_size=DIGEST, key=self._secret).digest()


def _joined(first: Sequence[str], then: Sequence[str]) -> list[str]:
    known = set(first)
    return [*first, *(csa_id for csa_id in then if csa_id not in known)]


@contextmanager
def refused(path: Path | str, kind: str) -> Iterator[None]:
    """Parts that do not fit as one line that names the file: BundleError, or ConfigError for another secret."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, IndexError, DataError) as error:
        raise BundleError(f"{path}: not a saved history of {kind} ({error})") from None


def write_state(path: Path | str, kind: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write arrays without objects as a file of that kind, whole or not at all."""
    header = np.frombuffer(f"{kind} {VERSION}".encode(), np.uint8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = {"header": header, **arrays}
        np.savez(file, **named)


def read_state(path: Path | str, kind: str) -> dict[str, npt.NDArray[Any]]:
    """What `write_state` wrote. Raises BundleError where the file is none, or one of another kind or version."""
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        header = arrays.pop("header").tobytes().decode()
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, BadZipFile) as error:
        raise BundleError(f"{path}: not a saved history of {kind} ({type(error).__name__}: {error})") from None
    if header != f"{kind} {VERSION}":
        raise BundleError(f"{path}: holds {header!r}, this program reads '{kind} {VERSION}': write it again with it")
    return arrays
