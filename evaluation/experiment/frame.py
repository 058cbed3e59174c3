"""What an experiment is analysed from: one row a contact, with its arm, its cluster and what became of it.

Notable: tables (`measured.py`) and the simulator make the same frame, so the analysis that is tried a thousand times on
simulated experiments is the one that reads users' logs.
"""

from __future__ import annotations

from typing import Final

CONTROL, TREATMENT, OUT = 0, 1, -1

SCHEDULE: Final = {
    "begins_at": "timestamp[us, UTC], from when",
    "ends_at": "timestamp[us, UTC], until when, half open",
    "unit": "text: `centre`, or the id of a site, team or CSA",
    "arm": "text, the arm's name",
    "pair": "int64, blocks (clusters) of the same number were drawn together, one of each arm; −1: drawn alone",
}
"""Columns of schedule.parquet; spans of one unit do not overlap."""

FRAME: Final = {
    "contact_id": "text",
    "customer_id": "text, may be null",
    "arrived_at": "datetime64[us, UTC]",
    "unit": "text, of the schedule; of the design `customer` the arm's name",
    "block": "int64, the span's number in order of `begins_at` (0 … B − 1), −1: none",
    "arm": "int8, 0 control, 1 treatment, −1: outside of the schedule",
    "washed": "bool, arrived within the wash-out after a change of arm, so it does not count",
    "csa_id": "text, the first CSA; null: nobody took it",
    "policy": "text, what `interactions.policy` says of the first hand-over; null: nothing",
    "resolved": "float64, 1, 0; NaN: not known. An abandoned contact is 0",
    "abandoned": "float64, 1 or 0",
    "wait_s": "float64, until the first hand-over or until it was abandoned",
    "handle_minutes": "float64, of all its hand-overs; NaN: not known",
    "csat": "float64, 1 … 5; NaN: not rated",
    "quality": "float64, 0 … 1; NaN: not judged",
    "repeat": "float64, 1: the customer was back within `repeat_days`; NaN: no customer, or too early to tell",
    "transferred": "float64, 1 or 0; NaN: not known",
    "covariate": "float64, what history says of the primary metric for such a contact, from before `begins`; NaN: none",
    "language": "text, may be null",
    "intent": "text, may be null",
    "tenure": "text, band of the CSA's time with the centre at the hand-over; null: nobody took it",
    "load": "text, band of how busy the centre was when it arrived",
}
"""Columns of the frame, a pandas DataFrame in order of `arrived_at`."""

FROM_TABLES: Final = {
    "csa_rate": "float64, what history says of the first CSA's own mean of the primary metric, what was to be expected "
    "of their contacts taken out; NaN: nobody took it, or no history",
}
"""A column that frames of tables have as well; without it, it is taken from the control's contacts."""
