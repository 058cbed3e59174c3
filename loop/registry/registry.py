"""Which bundle is the champion: MLflow's model registry says, and a store of bundles that never change has it.

Notable: a version of the registry is a bundle's digest and nothing else, so registering the same bundle again is the
same version, and every alias pins what may be served to the bit. Where a promotion is cut off, nothing has happened or
all has: the version says whom it replaces before the alias moves. Who moves an alias holds the registry's lock
for as long, and says whom they take for the champion; if it is another by then, nothing moves.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop.registry.store import BundleStore
from twotower.bundle.bundle import Bundle
from twotower.bundle.registered import TAG
from twotower.errors import BundleError, ConfigError, MissingExtraError, TwoTowerError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MODEL = "contact-matcher"
CHAMPION, CHALLENGER = "champion", "challenger"
REPLACED, ROLLED_BACK, PARENT = "twotower.replaced", "twotower.rolled_back", "twotower.parent"
ANYBODY = -1
DATABASE, BUNDLES, LOCK = "mlflow.db", "bundles", "registry.lock"


class Busy(TwoTowerError):
    """Somebody else holds the registry's lock."""


@dataclass(frozen=True)
class Version:
    """A bundle that is registered."""

    number: int
    digest: str
    source: str
    """Where the store has it."""
    made_ms: int
    """When it was registered, milliseconds since 1970."""
    tags: dict[str, str]
    aliases: tuple[str, ...]

    @property
    def replaced(self) -> int | None:
        """The champion whose place it took, None: it never took one's."""
        text = self.tags.get(REPLACED, "")
        return int(text) if text.isdigit() else None

    @property
    def rolled_back(self) -> str | None:
        """Why it was taken back, None: it was not."""
        return self.tags.get(ROLLED_BACK)


class Registry:
    """One model's versions and aliases."""

    def __init__(self, place: str | Path, model: str = MODEL, store: str | Path | None = None) -> None:
        """place: a folder, which then holds everything (SQLite, bundles), or the URL of an MLflow server or database;
        store: folder or URL of the bundles, needed beside a URL. Raises ConfigError without one, MissingExtraError
        without MLflow."""
        self.model, self.place = model, str(place)
        remote = "://" in self.place
        if remote and store is None:
            raise ConfigError(f"{place}: holds no bundles; name the folder or URL that does with --store")
        self.folder = None if remote else Path(place).absolute()
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.uri = self.place if self.folder is None else f"sqlite:///{self.folder / DATABASE}"
        self.store = BundleStore(store if store is not None else Path(self.place) / BUNDLES)
        self._client: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """MLflow's own, of this registry."""
        if self._client is None:
            self._client = _client(self.uri)
        return self._client

    def register(self, path: str | Path, tags: Mapping[str, str] | None = None, parent: int | None = None) -> Version:
        """Keep a bundle and give it a version, the one it has if it is registered. tags: more to say of it; parent: the
        version that its training began with. Raises BundleError for a folder that is no whole bundle."""
        bundle = Bundle.open(path)
        digest = bundle.manifest.id
        source = self.store.put(bundle)
        if found := [one for one in self.versions() if one.digest == digest]:
            return found[0]
        said = {**(tags or {}), TAG: digest} | ({} if parent is None else {PARENT: str(parent)})
        self._ensure()
        made = self.client.create_model_version(self.model, source=source, tags=said)  # with its tags, or not at all
        return self.version(int(made.version))

    def versions(self) -> list[Version]:
        """All of them, the oldest first."""
        aliases = self._aliases()
        found, token = [], None
        while True:
            page = self.client.search_model_versions(f"name = '{self.model}'", page_token=token)
            found += [_version(one, aliases) for one in page]
            token = page.token
            if not token:
                return sorted((one for one in found if one.digest), key=lambda one: one.number)

    def version(self, which: int | str) -> Version:
        """By number, alias, or the beginning of its digest (8 letters or more). Raises ConfigError."""
        known = self.versions()
        text = str(which)
        found = [one for one in known if text in (str(one.number), *one.aliases)]
        if not found and len(text) >= 8:
            found = [one for one in known if one.digest.startswith(text.lower())]
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(f"{text}: {len(found)} bundles begin with it; give more of the digest")
        numbers = ", ".join(str(one.number) for one in known[-5:]) or "none"
        raise ConfigError(f"{text}: no version, alias or digest of {self.model}; the latest versions: {numbers}")

    def alias(self, name: str) -> Version | None:
        """The version that an alias names, None: nobody."""
        return next((one for one in self.versions() if name in one.aliases), None)

    def promote(self, which: int | str, alias: str = CHAMPION, instead_of: int | None = ANYBODY) -> Version:
        """Give an alias to a version. instead_of: the version that has it now, as the caller believes, None: nobody;
        by default whoever it is. Raises Busy while somebody else moves one, ConfigError where another has it by now."""
        with self.lock():
            version, now = self.version(which), self.alias(alias)
            number = None if now is None else now.number
            if instead_of != ANYBODY and number != instead_of:
                raise ConfigError(f"{alias}: is version {number} by now, not {instead_of}; look again, then promote")
            if now is not None and now.number == version.number:
                return version
            if alias == CHAMPION and now is not None:
                self.tag(version.number, REPLACED, str(now.number))
            self.client.set_registered_model_alias(self.model, alias, str(version.number))
            if alias == CHAMPION and CHALLENGER in version.aliases:
                self.client.delete_registered_model_alias(self.model, CHALLENGER)
            return self.version(version.number)

    def rollback(self, why: str = "by hand", of: int | None = None, to: int | None = None) -> tuple[Version, Version]:
        """Make the champion before this one the champion again; returns it and who was. of: the champion, as the caller
        believes; to: who was it before, where the caller knows better than the tag. Raises ConfigError where there is
        none or another is champion by now, Busy."""
        with self.lock():
            now = self.alias(CHAMPION)
            if of is not None and (now is None or now.number != of):
                raise ConfigError(f"{CHAMPION}: is not version {of} any more; nothing is rolled back")
            before = now.replaced if to is None and now is not None else to
            if now is None or before is None:
                raise ConfigError(f"{self.model}: no champion replaced another; nothing to roll back to")
            back = self.version(before)
            self.tag(now.number, ROLLED_BACK, why[:500])
            self.client.set_registered_model_alias(self.model, CHAMPION, str(back.number))
            return self.version(back.number), self.version(now.number)

    def drop(self, alias: str, of: int | None = None) -> None:
        """Nobody has the alias any more. of: only if it is this version's."""
        with self.lock():
            now = self.alias(alias)
            if now is not None and of in (None, now.number):
                self.client.delete_registered_model_alias(self.model, alias)

    def tag(self, number: int, key: str, value: str) -> None:
        """Say something of a version."""
        self.client.set_model_version_tag(self.model, str(number), key, value)

    def open(self, which: int | str, cache: Path | None = None) -> Bundle:
        """A version's bundle on this machine, verified against its digest. Raises BundleError, ConfigError."""
        version = self.version(which)
        return self.store.fetch(version.digest, cache or Path.home() / ".cache" / "twotower" / BUNDLES)

    @contextmanager
    def lock(self, wait_s: float = 30.0) -> Iterator[None]:
        """Alone among the processes of this machine (of the folder, where the registry is one). Raises Busy after
        `wait_s`."""
        place = self.folder or Path.home() / ".cache" / "twotower"
        with locked(place / LOCK, wait_s, f"{self.place}: somebody else moves an alias"):
            yield

    def _ensure(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise BundleError(f"{self.place}: the registry cannot be written ({error.error_code})") from error

    def _aliases(self) -> dict[str, str]:
        """Version by alias."""
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_registered_model(self.model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise BundleError(f"{self.place}: the registry cannot be read ({error.error_code})") from error
        return {str(alias): str(number) for alias, number in found.items()}


@contextmanager
def locked(path: Path, wait_s: float, busy: str) -> Iterator[None]:
    """Alone with a lock's file; the system lets go of it when a process dies. Raises Busy after `wait_s` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Busy(f"{busy}; try again when it has ended ({path})") from None
                time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _client(uri: str) -> MlflowClient:
    try:
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise MissingExtraError(
            "a registry needs the package mlflow-skinny, which is not installed; run: pip install "
            "'twotower-matcher[registry]'"
        ) from None
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _version(given: Any, aliases: Mapping[str, str]) -> Version:
    number = str(given.version)
    return Version(
        int(number), str(given.tags.get(TAG, "")), str(given.source), int(given.creation_timestamp), dict(given.tags),
        tuple(sorted(alias for alias, of in aliases.items() if of == number)),
    )  # fmt: skip
