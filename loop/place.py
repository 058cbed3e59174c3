"""A folder that one program owns: made whole, and replaced only where the same program made what stands there.

Notable: `twotower.files.atomic_directory` refuses a name that is taken, which is right for a user's own outputs; the
demo is run again and again under one name. A marker file inside says whose folder it is. The old folder stays in
place until the new one is whole, and an interruption at any point before that leaves the old one as it was.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twotower.errors import OutputError


@contextmanager
def owned_directory(path: str | Path, marker: str) -> Iterator[Path]:
    """Yields a hidden folder that replaces `path` when the block ends without an exception.

    Args:
        path: must not exist, or be a folder that holds a file called `marker`.
        marker: the block has to write it; its presence says that the folder may be replaced next time.

    Raises:
        OutputError: something else stands at `path`, its parent cannot be written, or the block wrote no marker.
    """
    target = Path(path).absolute()
    _refuse_foreign(target, marker)
    fresh = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        fresh.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --output") from None
    try:
        yield fresh
        if not (fresh / marker).is_file():
            raise OutputError(f"{path}: {marker} was not written, so the folder could never be replaced")
        _refuse_foreign(target, marker)
        _replace(target, fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _refuse_foreign(target: Path, marker: str) -> None:
    if target.is_symlink() or (target.exists() and not (target / marker).is_file()):
        raise OutputError(f"{target}: exists and holds no {marker}, so it is somebody else's; name another --output")


def _replace(target: Path, fresh: Path) -> None:
    """The new folder takes the name; the old one goes only after that."""
    if not target.exists():
        fresh.rename(target)
        return
    old = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
