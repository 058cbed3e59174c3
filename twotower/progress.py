"""Progress bars: on stderr where that is a terminal, nothing at all in a pipe, so that logs stay readable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterator[T]:
    """Yields the items while a bar labelled `what` counts them; `total` is needed where `len(items)` is not known."""
    if not visible():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, desc=what, total=total, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False)


@contextmanager
def bar(what: str, total: int | None = None, unit: str = "it") -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)` for work that is not a loop over items."""
    if not visible():
        yield lambda n: None
        return
    from tqdm import tqdm

    with tqdm(desc=what, total=total, unit=unit, unit_scale=True, dynamic_ncols=True, leave=False) as shown:

        def advance(n: int) -> None:
            shown.update(n)

        yield advance


def visible() -> bool:
    """Whether a person looks at stderr."""
    return sys.stderr is not None and sys.stderr.isatty()
