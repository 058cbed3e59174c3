"""Which bundle decided each contact, for plans whose arms are bundles.

Notable: two bundles of one router have one policy, and a router that only asks for a ranking writes no policy at all;
but each decision that it logs names its bundle. The bundle counts whether it answered or the router fell back on the
queue meanwhile: a bundle that makes it fall back answers for what becomes of these contacts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.experiment.plan import Plan
from twotower.clock import NEVER, SECOND, from_arrow
from twotower.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Names = npt.NDArray[np.object_]

BUNDLE = "bundle:"
FILE = "decisions.parquet"
COLUMNS = ("contact_id", "decided_at", "model")


def by_bundle(plan: Plan) -> bool:
    """Whether an arm of a plan is a bundle."""
    return any(name.startswith(BUNDLE) for arm in (plan.control, plan.treatment) for name in arm.policies)


def deciders(folder: str | Path, frame: pd.DataFrame, at: int | None = None) -> Names:
    """(N,) `bundle:DIGEST` of contacts, None where no decision is known.

    frame: contact_id, arrived_at, wait_s of contacts. at: decisions made later are not known (µs UTC). Of several
    decisions counts the last until the contact was taken or given up, else the first after it, as clocks differ. Raises
    DataError where decisions.parquet is missing or cannot be read.
    """
    import pandas as pd

    path = Path(folder) / FILE
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0] if path.is_file() else "no such file"
        raise DataError(
            f"{path}: {reason}; arms of this plan are bundles, and {', '.join(COLUMNS)} of the decision log say which "
            "one decided: `twotower feedback export` writes it"
        ) from None
    made = pd.DataFrame({"contact_id": table["contact_id"].to_pandas(), "model": table["model"].to_pandas(),
                         "decided": from_arrow(table["decided_at"], NEVER)})  # fmt: skip
    made = made[made["model"].notna() & (made["decided"] < (NEVER if at is None else at))]
    arrived = frame["arrived_at"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    wait = frame["wait_s"].to_numpy(np.float64)
    until = np.where(np.isnan(wait), NEVER, arrived + (np.nan_to_num(wait) * SECOND).astype(np.int64))
    ends = pd.Series(until, index=frame["contact_id"].to_numpy(object))
    made = made[made["contact_id"].isin(ends.index)].sort_values("decided", kind="stable")
    before = made["decided"].to_numpy() <= ends[made["contact_id"].to_numpy(object)].to_numpy()
    last = made[before].drop_duplicates("contact_id", keep="last")
    first = made[~before].drop_duplicates("contact_id", keep="first")
    chosen = pd.concat([last, first[~first["contact_id"].isin(last["contact_id"])]]).set_index("contact_id")["model"]
    found = chosen.reindex(frame["contact_id"].to_numpy(object)).to_numpy(object)
    return np.array([None if pd.isna(one) else f"{BUNDLE}{one}" for one in found], object)
