"""When the CSAs of a log work: by shifts.parquet, or by what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.simulate.centre import Shifts
from evaluation.simulate.replay_window import Window
from twotower.clock import DAY, HOUR, NEVER, NULL_TIME, SECOND, from_arrow
from twotower.errors import ConfigError, DataError
from twotower.tables.log import Handovers
from twotower.tables.read import read_table
from twotower.tables.schema import SHIFTS

Longs = npt.NDArray[np.int64]
AFTER = DAY
"""Shifts count until so long after the window, so that who waits at its end is served."""
PAUSE = 2 * HOUR
"""Without a contact in hand for longer than this, a CSA's shift is taken to have ended."""
UNKNOWN_S = 600
"""Seconds that a hand-over whose end nobody wrote down keeps its CSA at work."""


def shifts_of(folder: str | Path, window: Window) -> tuple[Shifts, int]:
    """Shifts of all CSAs of the log that reach into the window or begin up to a day after it, clipped at its start and
    at employment, seconds from its start; and of how many CSAs they are derived from what they did, since no row of
    shifts.parquet names them.

    Raises ConfigError where nobody works in the window, DataError for a file that cannot be read.
    """
    told, found = _read(folder, window)
    named = np.unique(told[0])
    derived = _derived(window, np.setdiff1d(np.arange(len(window.log.csas)), named))
    csa, starts, ends = (np.concatenate(pair) for pair in zip(told, derived, strict=True))
    hired, left = _employed(window)
    starts, ends = np.maximum(np.maximum(starts, hired[csa]), window.begin), np.minimum(ends, left[csa])
    kept = (starts < ends) & (starts < window.end + AFTER)
    if not (kept & (starts < window.end)).any():
        source = "shifts.parquet" if found else "no shifts.parquet, and hand-overs"
        raise ConfigError(f"centre: nobody works in the window ({source} of {folder}); choose another from and to")
    csa, starts, ends = _merged(csa[kept], starts[kept], ends[kept])
    inside = np.unique(derived[0][(derived[1] < window.end) & (derived[2] > window.begin)])
    return Shifts(csa, window.seconds(starts), window.seconds(ends)), len(inside)


def _read(folder: str | Path, window: Window) -> tuple[tuple[Longs, Longs, Longs], bool]:
    """CSAs, starts and ends of shifts.parquet, nothing where there is no such file."""
    if not (Path(folder) / SHIFTS.file).exists():
        return (np.zeros(0, np.int64),) * 3, False
    table = read_table(folder, SHIFTS)
    codes = pc.index_in(table["csa_id"].cast(pa.string()), value_set=window.log.csas.ids.cast(pa.string()))
    if codes.null_count:
        name = table["csa_id"].filter(pc.is_null(codes))[0].as_py()
        raise DataError(f"{folder}/{SHIFTS.file}: csa_id {name!r} is no csa_id of csas.parquet")
    csa = codes.to_numpy().astype(np.int64)
    return (csa, from_arrow(table["starts_at"], NULL_TIME), from_arrow(table["ends_at"], NEVER)), True


def _derived(window: Window, who: Longs) -> tuple[Longs, Longs, Longs]:
    """Of some CSAs, from the first hand-over to the end of the last without a pause of `PAUSE` between."""
    moves: Handovers = window.log.handovers
    kept = np.flatnonzero(np.isin(moves.csa, who))
    begin = moves.assigned_at[kept]
    took = np.nan_to_num(moves.handle_time_s[kept], nan=UNKNOWN_S).astype(np.int64) * SECOND
    end = np.where(moves.ended_at[kept] == NEVER, begin + took, moves.ended_at[kept])
    return _merged(moves.csa[kept].astype(np.int64), begin, np.maximum(end, begin + SECOND), PAUSE)


def _merged(csa: Longs, starts: Longs, ends: Longs, pause: int = 0) -> tuple[Longs, Longs, Longs]:
    """Spans by CSA and start; those that overlap, or lie no more than a pause apart, are one."""
    order = np.lexsort((starts, csa))
    csa, starts, ends = csa[order], starts[order], ends[order]
    found: list[tuple[int, int, int]] = []
    for one, start, end in zip(csa.tolist(), starts.tolist(), ends.tolist(), strict=True):
        if found and found[-1][0] == one and start <= found[-1][2] + pause:
            found[-1] = (one, found[-1][1], max(found[-1][2], end))
        else:
            found.append((one, start, end))
    rows = np.array(found, np.int64).reshape(-1, 3)
    return rows[:, 0], rows[:, 1], rows[:, 2]


def _employed(window: Window) -> tuple[Longs, Longs]:
    """From and until when each CSA works here, by the dated row that counts at the window's end."""
    csas = window.log.csas
    row = csas.row_at(window.end - 1)
    hired = np.where(row >= 0, csas.hired_at[row], NEVER)
    return hired, np.where(row >= 0, csas.left_at[row], NULL_TIME)


def capacities(window: Window) -> Longs:
    """(J,) contacts at once by the dated row that counts at the window's end; a declared 0 is nobody to be given any
    (who then has no class either)."""
    csas = window.log.csas
    row = csas.row_at(window.end - 1)
    return np.where(row >= 0, csas.capacity[row], 0).astype(np.int64)
