"""Writing whole or not at all, and checksums.

A folder is filled under a hidden name beside its destination and renamed into place as the last step, so a reader never
sees half of it and an interruption leaves nothing under the name that was asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twotower.errors import OutputError


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yields an empty hidden folder that becomes `path` when the block ends without an exception.

    On any exception, an interrupt included, the hidden folder is removed and `path` does not come to exist.

    Raises:
        OutputError: `path` exists already, or its parent cannot be written.
    """
    target = Path(path).absolute()
    refuse_existing(target)
    partial = _partial(target)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --output") from None
    try:
        yield partial
        publish(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def publish(folder: str | Path, path: str | Path) -> None:
    """Gives a finished folder its name: everything in it reaches the disk first, then it becomes `path` in one step.

    For who fills a folder over several runs, where `atomic_directory` would throw it away. Both lie on one file system.

    Raises:
        OutputError: `path` exists already.
    """
    made, target = Path(folder), Path(path).absolute()
    for file in made.rglob("*"):
        _flush(file)
    refuse_existing(target)
    made.rename(target)
    _flush(target.parent)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yields a hidden path beside `path`; the file written there replaces `path` when the block ends well."""
    target = Path(path).absolute()
    partial = _partial(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _flush(partial)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def atomic_write(path: str | Path, content: bytes | str) -> None:
    """Writes a small file (text as UTF-8) so that readers see the old content or the new, never a part."""
    with atomic_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Alone among those, of all processes of this machine, who take the lock of a file: `.lock` beside it, which stays.

    Not on a network file system. Raises OSError where the lock cannot be opened.
    """
    import fcntl  # not on every system that trains

    target = Path(path)
    handle = os.open(target.with_name(target.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def system_errors(path: str | Path) -> Iterator[None]:
    """Makes what libraries in Rust say of a file that they could not write the OSError that it was; names `path` where
    an OSError names none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        code = error.errno
    except Exception as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        code = int(found[1])
    else:
        return
    raise OSError(code, os.strerror(code), str(path))


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_existing(target: Path) -> None:
    """Raises OutputError where something stands under the name that is to be written."""
    if target.exists() or target.is_symlink():
        raise OutputError(f"{target}: exists already; name a new --output or remove it first")


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")


def _flush(path: Path) -> None:
    """To the disk, so that after a power cut a name that exists has its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
