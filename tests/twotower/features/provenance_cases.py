"""What the tests of provenance share: a fake centre, a bundle that reads every family of features, short calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.serve import fakes
from twotower.clock import DAY
from twotower.features.provenance import Explained, unfitted
from twotower.features.provenance_contact import ContactCase, explain_contact
from twotower.features.provenance_csa import CsaCase, explain_csa
from twotower.features.registry import FAMILIES
from twotower.tables import Log

NOON = int(fakes.START.timestamp() * 1e6) + 18 * DAY + DAY // 2
CSAS = range(12)


def full_bundle(centre: Path, place: Path) -> Path:
    """A bundle of the fake centre that reads every family, in a folder of `place`."""
    run = fakes.write_run(centre, place / "run", families=list(FAMILIES))
    return fakes.fake_bundle(run, place / "bundle")


def of_csa(log: Log, csa: str, moment: int, row: int | None = None) -> Explained:
    """A CSA without a bundle."""
    return explain_csa(CsaCase(log, log.csas.ids.to_pylist().index(csa), moment, unfitted(log, moment), row))


def of_contact(log: Log, contact: str, row: int | None = None) -> Explained:
    """A contact without a bundle."""
    place = log.contacts.ids.to_pylist().index(contact)
    return explain_contact(ContactCase(log, place, unfitted(log, int(log.contacts.arrived_at[place])), row))


def column(explained: Explained, name: str) -> dict[str, Any]:
    """What is told of one column."""
    columns = [one for shown in explained.data()["features"] for one in shown["columns"] if one["name"] == name]
    assert len(columns) == 1
    return columns[0]
