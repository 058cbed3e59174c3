"""Where bundles are kept: a folder or any URL that fsspec knows, each bundle under the id that its content gives it.

Notable: nothing here is ever changed. A bundle is put under its id or is there already; its manifest is written last,
so a bundle without one is a copy that was cut off, and is written again. Whatever is fetched is verified against
the id before anybody sees it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twotower.bundle.bundle import Bundle
from twotower.bundle.manifest import NAME, Manifest, check_names
from twotower.errors import BundleError, ConfigError, MissingExtraError, OutputError
from twotower.files import atomic_directory

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class BundleStore:
    """Bundles by id, under a root."""

    def __init__(self, root: str | Path) -> None:
        """root: a folder, or a URL such as s3://bucket/bundles. Raises ConfigError for one that fsspec does not know,
        MissingExtraError for one whose package is not installed."""
        self.root = str(root).rstrip("/")
        self._fs: AbstractFileSystem | None = None
        self._base = self.root
        if "://" in self.root:
            self._fs, self._base = _opened(self.root)

    def where(self, digest: str) -> str:
        """Folder or URL of a bundle, whether it is there or not."""
        return f"{self.root}/{digest}" if self._fs is not None else str(Path(self.root).absolute() / digest)

    def has(self, digest: str) -> bool:
        """Whether the bundle is there, whole."""
        if self._fs is None:
            return (Path(self.root) / digest / NAME).is_file()
        return bool(self._fs.exists(f"{self._base}/{digest}/{NAME}"))

    def put(self, bundle: Bundle) -> str:
        """Keep a verified bundle; returns where it is. Raises OutputError where the store cannot be written."""
        digest = bundle.manifest.id
        if not self.has(digest):
            files = sorted(bundle.manifest.files)
            if self._fs is None:
                _copy(bundle.path, files, Path(self.root) / digest)
            else:
                for name in (*files, NAME):  # the manifest last: it says that the others are there
                    self._fs.put_file(str(bundle.path / name), f"{self._base}/{digest}/{name}")
        return self.where(digest)

    def fetch(self, digest: str, cache: Path) -> Bundle:
        """A bundle on this machine, verified: where it is kept, or copied into `cache`. Raises BundleError where it is
        not in the store, or is not what its id says."""
        if not self.has(digest):
            raise BundleError(f"{self.where(digest)}: no such bundle in the store; register it again")
        if self._fs is None:
            return Bundle.open(Path(self.root) / digest, digest)
        target = cache / digest
        if not (target / NAME).is_file():
            shutil.rmtree(target, ignore_errors=True)
            with atomic_directory(target) as partial:
                self._fs.get_file(f"{self._base}/{digest}/{NAME}", str(partial / NAME))
                files = Manifest.read(partial).files
                check_names(partial, files)  # before any of them is a path
                for name in files:
                    self._fs.get_file(f"{self._base}/{digest}/{name}", str(partial / name))
        return Bundle.open(target, digest)


def _copy(source: Path, files: list[str], target: Path) -> None:
    """The listed files and the manifest; what lies beside them in the folder is not the bundle's."""
    if target.exists():  # without a manifest, or it would not be asked for
        shutil.rmtree(target)
    try:
        with atomic_directory(target) as partial:
            for name in (*files, NAME):
                shutil.copyfile(source / name, partial / name)
    except OutputError:
        if not (target / NAME).is_file():  # else somebody else has put the same bundle there meanwhile
            raise


def _opened(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        fs, base = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{url}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{url}: {error}; a folder, or a URL that fsspec knows, expected") from None
    return fs, str(base).rstrip("/")
