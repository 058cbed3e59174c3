"""What goes on beside the requests: ticks, looking for a new bundle, roster or tokens, rebuilding, saving customers."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from serve.http.build import load_serving
from serve.http.follow import FOLLOW_S, Follower
from serve.http.run import TICK_S, every
from serve.http.service import Service, Serving
from serve.http.shadow import shadow_of
from serve.http.tokens import Tokens, read_tokens
from serve.roster.keeper import lost
from serve.searches_apart import Stopped, stop
from serve.store.errors import StoreError
from serve.watch import FileWatch, roster_changes
from twotower.bundle.manifest import NAME, Manifest
from twotower.errors import TwoTowerError

_log = logging.getLogger("serve")
SAVE_S = 60.0
REBUILD_S = 5.0  # between looks at whether searches are to be built anew
END_S = 2.0  # that an end waits for decisions to be written, before customers are saved


class Running:
    """The background of one service. journal: that of its roster."""

    def __init__(self, service: Service, journal: str | Path) -> None:
        self._service, self._journal = service, journal
        settings = service.settings
        self.bundle = FileWatch(Path(settings.bundle) / NAME, seen=True, folder=True)
        if not self._served():
            self.bundle.forget()
        self._first = settings.number == 0  # of several workers one tells the others, by the journal and the store
        self.roster = None if settings.roster is None or not self._first else FileWatch(settings.roster)
        self.tokens = None if settings.tokens is None else FileWatch(settings.tokens, seen=True)
        if self.tokens is not None:
            self._take_tokens()
        self.follower = None if service.store is None else Follower(service, service.store)

    def _served(self) -> bool:
        """Whether what is there now is what was loaded, which took a while."""
        try:
            there = Manifest.read(Path(self._service.settings.bundle))
        except TwoTowerError:
            return False
        return there.id == self._service.serving.matcher.bundle_id

    @asynccontextmanager
    async def lifespan(self, _app: Any) -> AsyncIterator[None]:
        """While requests are served."""
        settings = self._service.settings
        service = self._service
        jobs = [every(TICK_S, service.tick), every(TICK_S, service.eraser.look), every(settings.watch_s, self.look)]
        jobs.append(every(REBUILD_S, self.rebuild))
        if self.follower is not None:
            jobs.append(every(FOLLOW_S, self.follower.follow))
        if service.serving.matcher.customers is not None and self._first:
            jobs.append(every(SAVE_S, self._save))
        service.shadow = shadow_of(service, self._journal)
        if service.shadow is not None:
            service.shadow.start()
        tasks = [asyncio.create_task(job) for job in jobs]
        tasks.append(asyncio.create_task(asyncio.to_thread(self._begin)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            stop()  # a thread that waits for searches cannot be cancelled
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._end)

    def _begin(self) -> None:
        """What a start owes the store, and the store a start."""
        self._tell_roster(self._service.serving)
        if self.follower is not None:
            self.follower.follow()

    def _end(self) -> None:
        """Save the customers with the last that came, which the next start would else look for."""
        if self._service.store is not None:
            self._service.store.log.flush(END_S)
        if self.follower is not None:
            self.follower.follow()
        self._save()

    def _tell_roster(self, serving: Serving) -> None:
        if self._service.teller is not None and self._first:
            self._service.teller.whole(serving.matcher)

    def look(self) -> None:
        """See whether there is something new, and take it in if it is good."""
        if self.tokens is not None and self.tokens.changed():
            self._try("tokens", self._take_tokens)
        if self.bundle.changed() or lost(self._service.serving.keeper):
            self._try("bundle", self._swap)
        if self.roster is not None and self.roster.changed():
            self._try("roster", self._take_roster)

    def rebuild(self) -> None:
        """Build searches anew where much has come beside them; everything else goes on meanwhile."""
        matcher = self._service.serving.matcher
        if matcher.snapshot.due:
            begun = time.monotonic()
            try:
                matcher.rebuild()
            except Stopped:  # as everything is
                return
            _log.info("searches rebuilt", extra={"values": {"seconds": round(time.monotonic() - begun, 3)}})

    def _try(self, what: str, work: Any) -> None:
        try:
            work()
            outcome = "taken"
            _log.info("swapped", extra={"values": {"what": what}})
        except TwoTowerError as error:
            outcome = "refused"
            _log.error("%s refused, what is served stays: %s", what, error)
        except Exception:
            outcome = "refused"
            _log.exception("%s refused, what is served stays", what)
        self._service.metrics.swaps.labels(f"{what} {outcome}").inc()

    def _load(self) -> Serving:
        """A bundle, checked, with the roster and what ended since; customers go on with their open store."""
        returning = self._service.serving.learner.returning
        made = load_serving(self._service.settings, self._journal, returning)
        self._tell_ended(made)
        return made

    def _tell_ended(self, serving: Serving) -> None:
        if self._service.store is None:
            return
        try:
            with self._service.following:
                told = serving.learner.again(self._service.store)
            _log.info("told again", extra={"values": {"handovers": told}})
        except StoreError as error:
            _log.warning("what ended since is not told again: %s", error)

    def _swap(self) -> None:
        before = self._service.serving
        made = self._load()
        made.learner.returning.adopt(before.matcher.bundle, made.matcher.bundle)
        self._service.swap(made)
        self._tell_ended(made)  # what came meanwhile, of which the former one alone was told
        gc.freeze()  # as `run.settled`, without a collection, which would hold up readers
        self._tell_roster(made)
        before.keeper.close()

    def _take_roster(self) -> None:
        if self.roster is None:
            return
        serving = self._service.serving
        changes = roster_changes(serving.matcher, self.roster.path)
        if changes:
            self._service.change_roster(serving, changes)

    def _take_tokens(self) -> None:
        self._service.tokens = Tokens(read_tokens(self._service.settings.tokens))

    def _save(self) -> None:
        if self._first:
            self._service.eraser.save()
