"""Opening a bundle: verified first, then read part by part.

Notable: nothing is parsed before every checksum has been compared, and a file is read when it is first asked for, so
tools that need one part pay for one part. A checksum proves that the bundle is whole, not where it comes from:
`expect_digest` takes the id that a registry recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from twotower.bundle.manifest import Manifest, verify_files
from twotower.bundle.tables import DECLARED, Floats, Roster, read_history, read_roster, read_table
from twotower.errors import BundleError

if TYPE_CHECKING:
    from twotower.bundle.sessions import ContactEncoder, CsaEncoder
    from twotower.features.engine.csa import CsaHistory
    from twotower.features.schema import FeatureSchema
    from twotower.index.standins import StandIn
    from twotower.index.vectors import VectorIndex
    from twotower.scoring.join import Join
    from twotower.scoring.rows import HistoryRows


@dataclass(frozen=True)
class Bundle:
    """A verified bundle folder. Properties read their file once; each raises BundleError where it cannot be read."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, expect_digest: str | None = None) -> Bundle:
        """Verify a bundle and open it.

        expect_digest: the `id` that the bundle must have. Files that the manifest does not list are ignored: they are
        never read. Raises BundleError, one line, where the folder is not a bundle, a listed file is missing or
        changed, the id is another, or the format or the feature schema is unknown.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise BundleError(f"{folder}: no such folder; name a folder that `twotower export` wrote")
        manifest = Manifest.read(folder)
        if expect_digest is not None and manifest.id != expect_digest:
            raise BundleError(f"{folder}: is bundle {manifest.id[:12]}, expected {expect_digest[:12]}; fetch that one")
        verify_files(folder, manifest)
        bundle = cls(folder, manifest)
        found = {"schema": bundle.schema.version, "digest": manifest.files["features.json"]["sha256"]}
        if manifest.features != found:
            raise BundleError(f"{folder}: features.json is not the feature schema of the manifest; export again")
        return bundle

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists. Raises BundleError where it does not."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: this bundle has no {name}")
        return self.path / name

    @cached_property
    def schema(self) -> FeatureSchema:
        """The fitted feature schema."""
        from twotower.features.schema import FeatureSchema

        return FeatureSchema.load(self.file("features.json"))

    @cached_property
    def join(self) -> Join:
        """The joint weights for each meaning of a rank."""
        from twotower.scoring.join import Join

        return Join.load(self.file("calibration.json"))

    @cached_property
    def roster(self) -> Roster:
        """The CSAs with their profile vectors and features."""
        return read_roster(self.file("roster.parquet"))

    @cached_property
    def standins(self) -> dict[str, StandIn]:
        """Stand-ins for the joint score by rank; none where the roster is too large to scan."""
        from twotower.index.standins import read_standins

        return read_standins(self.file("standins.npz"), len(self.roster))

    @cached_property
    def declared(self) -> pa.Table:
        """What is declared of the CSAs at the end of the data window: columns of `csas.parquet`, one row a CSA."""
        return read_table(self.file("csas.parquet"), ("csa_id", *DECLARED))

    @cached_property
    def _history(self) -> tuple[HistoryRows, pa.Array]:
        return read_history(self.file("history.parquet"), self.roster.ids)

    @property
    def history(self) -> HistoryRows:
        """Remembered hand-overs, sorted by (csa, known_at), without customers."""
        return self._history[0]

    @cached_property
    def history_vectors(self) -> Floats:
        """What the history index holds: memory vectors with their staleness at the end of the data window."""
        from twotower.index.history import history_vectors

        facts = self.manifest.history
        return history_vectors(self.history, int(self.manifest.window["until"]), float(facts["staleness_rate"]))

    @property
    def history_contacts(self) -> pa.Array:
        """Contact ids of the remembered hand-overs, in row order."""
        return self._history[1]

    @cached_property
    def engine(self) -> CsaHistory:
        """The CSAs' history resumed from `features.state`; it is mutable, so take a fresh bundle for a second one."""
        from twotower.features.engine.store import load_csas

        return load_csas(self.file("features.state"))

    @cached_property
    def contact_encoder(self) -> ContactEncoder:
        """The contact tower behind its tokenizer and features."""
        from twotower.bundle.sessions import CONTACT_INPUTS, CONTACT_OUTPUTS, ContactEncoder, open_session
        from twotower.text.tokens import Tokenizer

        session = open_session(self.file("contact_tower.onnx"), CONTACT_INPUTS, CONTACT_OUTPUTS)
        tokenizer = Tokenizer.load(self.file("tokenizer.json"), self.schema.max_tokens)
        return ContactEncoder(session, tokenizer, self.schema)

    @cached_property
    def csa_encoder(self) -> CsaEncoder:
        """The CSA tower."""
        from twotower.bundle.sessions import CSA_INPUTS, CSA_OUTPUTS, CsaEncoder, open_session

        return CsaEncoder(open_session(self.file("csa_tower.onnx"), CSA_INPUTS, CSA_OUTPUTS))

    def index(self, name: str) -> VectorIndex:
        """The FAISS index `profiles` (of `roster.vectors`) or `history` (of `history_vectors`), with those vectors."""
        from twotower.index.build import read_index
        from twotower.index.vectors import IndexChoice

        try:
            choice = IndexChoice(**self.manifest.indexes[name])
        except (KeyError, TypeError):
            raise BundleError(f"{self.path}: its manifest does not describe the index {name!r}; export again") from None
        vectors = self.roster.vectors if name == "profiles" else self.history_vectors
        return read_index(self.file(f"{name}.faiss"), vectors, choice)
