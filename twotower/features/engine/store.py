"""States on disk: the CSAs' part goes into the bundle, the customers' part into a store of its own that can forget.

Notable: both are uncompressed npz files of plain arrays (nothing is unpickled), written whole or not at all, and the
same state gives the same bytes. The customers' store holds no customer id: rows stand under keyed BLAKE2b digests
(Aumasson et al., 2013; RFC 7693) with a secret that the caller keeps elsewhere, sorted by them, so that without the
secret neither a name nor the order of arrival can be read from it. The secret itself is checked by a digest of a
constant, since with a wrong one every customer would silently be new.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
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

VERSION = 1
DIGEST = 16  # bytes of a customer's key: two of 10^9 customers share one with probability 10^-21
LEAST_SECRET = 16  # bytes
_CHECK = b"twotower customers' store"


def save_csas(history: CsaHistory, path: Path | str) -> None:
    """Write the CSAs' state (`features.state`)."""
    _write(path, "csas", {"settings": to_bytes(history.settings), **history.state()})


def load_csas(path: Path | str, core: Core = TWIN) -> CsaHistory:
    """Resume what `save_csas` wrote. Raises BundleError where the file is not such a state."""
    arrays = _read(path, "csas")
    try:
        return CsaHistory.restored(from_bytes(CsaSettings, arrays["settings"]), arrays, core)
    except (KeyError, TypeError, ValueError, IndexError, TwoTowerError) as error:
        raise BundleError(f"{path}: not a saved history of csas ({error})") from None


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
        self.history = CustomerHistory(settings, 0, moment, core)
        self._code: dict[bytes, int] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._code)

    def codes(self, customer_ids: Sequence[str | None], add: bool = False) -> Codes:
        """Positions (N,) of customers in `history`, −1 for None and for those not there; with `add` these get one."""
        found = np.full(len(customer_ids), -1, np.int32)
        for i, customer_id in enumerate(customer_ids):
            if customer_id is not None:
                key = self._key(customer_id)
                found[i] = self._code.get(key, -1) if not add else self._placed(key)
        return found

    def erase(self, customer_id: str) -> bool:
        """Forget a customer; False where nothing was known. `save` afterwards, and the file knows nothing either.

        Sums of CSAs stay as they are: they are totals over everyone and name nobody.
        """
        code = self._code.pop(self._key(customer_id), None)
        if code is None:
            return False
        self.history.forget(code)
        self._free.append(code)
        return True

    def save(self, path: Path | str) -> None:
        """Write the store; rows stand in the order of their keys."""
        keys = sorted(self._code)
        rows = np.array([self._code[key] for key in keys], dtype=np.int64)
        state = self.history.state()
        state.update({name: state[name][rows] for name in PER_CUSTOMER})
        csa_ids = np.frombuffer(json.dumps(self.csa_ids).encode(), np.uint8)
        key_bytes = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), DIGEST)
        check = np.frombuffer(self._digest(_CHECK), np.uint8)
        settings = to_bytes(self.history.settings)
        _write(
            path, "customers", {"settings": settings, "check": check, "keys": key_bytes, "csa_ids": csa_ids, **state}
        )

    @classmethod
    def load(
        cls, path: Path | str, secret: bytes, csa_ids: Sequence[str] | None = None, core: Core = TWIN
    ) -> CustomerStore:
        """Resume what `save` wrote, with pairings in positions of `csa_ids` (None: of the saved ones).

        CSAs whom the store remembers and `csa_ids` lacks follow it in `CustomerStore.csa_ids`, so nothing is lost.
        Raises ConfigError for another secret, BundleError where the file is not such a store.
        """
        arrays = _read(path, "customers")
        try:
            settings = from_bytes(CustomerSettings, arrays["settings"])
            saved: list[str] = json.loads(arrays["csa_ids"].tobytes())
            store = cls(secret, settings, _joined(saved if csa_ids is None else csa_ids, saved))
            if not hmac.compare_digest(store._digest(_CHECK), arrays["check"].tobytes()):
                raise ConfigError(f"{path}: written with another secret; give the one it was written with")
            place = {csa_id: i for i, csa_id in enumerate(store.csa_ids)}
            # The last answers for −1, an empty place.
            moved = np.array([*(place[csa_id] for csa_id in saved), -1], np.int32)
            arrays["pair_csa"] = moved[arrays["pair_csa"]]
            store.history = CustomerHistory.restored(settings, arrays, core)
            keys = arrays["keys"]
            if keys.shape != (store.history.customers, DIGEST):
                raise DataError(f"keys {keys.shape} for {store.history.customers} customers")
            store._code = {key.tobytes(): i for i, key in enumerate(keys)}
        except (KeyError, TypeError, ValueError, IndexError, DataError) as error:
            raise BundleError(f"{path}: not a saved history of customers ({error})") from None
        return store

    def _placed(self, key: bytes) -> int:
        code = self._code.get(key)
        if code is None:
            if not self._free:
                have = self.history.customers
                self.history.grow(max(64, have * 3 // 2))
                self._free.extend(range(self.history.customers - 1, have - 1, -1))
            code = self._code[key] = self._free.pop()
        return code

    def _key(self, customer_id: str) -> bytes:
        # Ids come from users' exports, where a lone surrogate is possible.
        return self._digest(b"id:" + customer_id.encode("utf-8", "surrogatepass"))

    def _digest(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, digest_size=DIGEST, key=self._secret).digest()


def _joined(first: Sequence[str], then: Sequence[str]) -> list[str]:
    known = set(first)
    return [*first, *(csa_id for csa_id in then if csa_id not in known)]


def _write(path: Path | str, kind: str, arrays: dict[str, npt.NDArray[Any]]) -> None:
    header = np.frombuffer(f"{kind} {VERSION}".encode(), np.uint8)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        named: dict[str, Any] = {"header": header, **arrays}
        np.savez(file, **named)


def _read(path: Path | str, kind: str) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        header = arrays.pop("header").tobytes().decode()
    except (OSError, EOFError, KeyError, TypeError, ValueError, AttributeError, BadZipFile) as error:
        raise BundleError(f"{path}: not a saved history of {kind} ({type(error).__name__}: {error})") from None
    if header != f"{kind} {VERSION}":
        raise BundleError(f"{path}: holds {header!r}, this program reads '{kind} {VERSION}': write it again with it")
    return arrays
