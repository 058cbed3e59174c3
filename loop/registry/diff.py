"""What differs between two bundles, by their manifests and rosters: metrics, sizes, files, who is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twotower.bundle.bundle import Bundle


@dataclass(frozen=True)
class Difference:
    """Of two bundles, the second against the first."""

    fields: dict[str, tuple[Any, Any]]
    """Of the manifest, by dotted name: what the first says and what the second; None: nothing."""
    files: dict[str, str]
    """By name, of those that are not the same: `changed`, `added`, `removed`."""
    bytes: tuple[int, int]
    joined: tuple[str, ...]
    """CSAs who are active in the second's roster alone."""
    left: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether they are one bundle."""
        return not self.fields and not self.files


def difference(first: Bundle, second: Bundle) -> Difference:
    """Raises BundleError where a roster cannot be read."""
    one, other = (_flat(_told(bundle)) for bundle in (first, second))
    changed = {
        name: (one.get(name), other.get(name)) for name in sorted({*one, *other}) if one.get(name) != other.get(name)
    }
    before, after = first.manifest.files, second.manifest.files
    files = {
        name: "removed" if name not in after else "added" if name not in before else "changed"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }
    was, now = (_there(bundle) for bundle in (first, second))
    sizes = tuple(sum(int(facts["bytes"]) for facts in of.values()) for of in (before, after))
    return Difference(changed, files, (sizes[0], sizes[1]), tuple(sorted(now - was)), tuple(sorted(was - now)))


def _there(bundle: Bundle) -> set[str]:
    """CSAs of the roster who have not left."""
    roster = bundle.roster
    return {csa_id for csa_id, active in zip(roster.ids, roster.active.tolist(), strict=True) if active}


def _told(bundle: Bundle) -> dict[str, Any]:
    """What a manifest says beside its files."""
    manifest = bundle.manifest
    return {
        "versions": manifest.versions, "features": manifest.features, "ranks": manifest.ranks, "model": manifest.model,
        "history": manifest.history, "window": manifest.window, "metrics": manifest.metrics,
        "indexes": manifest.indexes, "quantisation": manifest.quantisation, "reduced": manifest.reduced,
    }  # fmt: skip


def _flat(given: Any, name: str = "") -> dict[str, Any]:
    """Leaves by dotted name."""
    if not isinstance(given, dict):
        return {name: given}
    found: dict[str, Any] = {}
    for key, value in given.items():
        found |= _flat(value, f"{name}.{key}" if name else str(key))
    return found
