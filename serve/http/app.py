"""The routes.

Notable: a route reads its own body (`asking.py`) rather than have it injected, so that tokens and sizes come first and
JSON is parsed once; what it takes and answers stands in the OpenAPI all the same. Answers are JSON without NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from serve.answer import Candidate
from serve.contact import MatchError
from serve.http import schemas
from serve.http.asking import DEADLINE, admitted, at_most, body_of, deadline_of
from serve.http.errors import Refused
from serve.http.service import Service
from serve.http.shell import KEY, Shell
from serve.roster.changes import from_json
from serve.roster.journal import JournalError
from serve.store.errors import Conflict, StoreError, StoreUnavailable
from serve.store.records import Feedback

Handler = Callable[[Request], Awaitable[Response]]
REFUSALS = {
    400: "no such length", 401: "no valid token", 403: "the token lacks the role", 408: "the body came too slowly",
    413: "the body is too large", 415: "not JSON", 422: "the request cannot be, and why", 429: "too often; Retry-After",
    503: "not now; Retry-After",
}  # fmt: skip
TITLE, VERSION = "Two-tower matcher", "1"
DEADLINE_PARAMETER = {
    "name": DEADLINE, "in": "header", "required": False,
    "schema": {"type": "integer", "minimum": 1, "maximum": 600_000},
    "description": "milliseconds until the answer must come; the queue's order, where the model has none by then",
}  # fmt: skip


def create_app(service: Service, lifespan: Any = None) -> FastAPI:
    """The application around a service; lifespan: what runs while it is served, see `run.py`."""
    app = FastAPI(
        title=TITLE, version=VERSION, docs_url=None, redoc_url=None, lifespan=lifespan or _nothing,
        openapi_url="/openapi.json", redirect_slashes=False,
    )  # fmt: skip
    app.add_middleware(Shell, service=service)
    app.add_exception_handler(HTTPException, _not_found)
    routes = Routes(service)
    routes.add_to(app)
    app.openapi = functools.partial(_openapi, app, routes.asked)  # type: ignore[method-assign]
    return app


class Routes:
    """The handlers of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.asked: dict[str, type[BaseModel]] = {}

    def add_to(self, app: FastAPI) -> None:
        """Register all."""
        self._post(app, "/v1/match", self.match, schemas.MatchBody, schemas.MatchAnswer, deadline=True)
        self._post(app, "/v1/assign", self.assign, schemas.AssignBody, schemas.AssignAnswer, deadline=True)
        self._post(app, "/v1/roster", self.change_roster, schemas.RosterBody, schemas.VersionAnswer)
        self._post(app, "/v1/feedback", self.feedback, schemas.FeedbackBody, schemas.FeedbackAnswer, (404, 409))
        self._post(app, "/v1/erase", self.erase, schemas.EraseBody, schemas.EraseAnswer, (404,))
        self._post(app, "/v1/explain", self.explain, schemas.ExplainBody, None)
        self._get(app, "/v1/roster", self.roster, schemas.RosterAnswer, openapi_extra=_paging())
        self._get(app, "/metrics", self.metrics, None)
        for path, handler in (("/healthz", self.healthz), ("/readyz", self.readyz)):
            app.get(path, response_model=schemas.HealthAnswer, responses={503: {"model": schemas.HealthAnswer}})(
                handler
            )

    def _post(
        self,
        app: FastAPI,
        path: str,
        handler: Handler,
        asked: type[BaseModel],
        answer: type[BaseModel] | None,
        also: Sequence[int] = (),
        deadline: bool = False,
    ) -> None:
        self.asked[asked.__name__] = asked
        schema = {"$ref": f"#/components/schemas/{asked.__name__}"}
        extra: dict[str, Any] = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "security": [{"token": []}],
            **({"parameters": [DEADLINE_PARAMETER]} if deadline else {}),
        }
        refusals = _refusals()
        for status in also:
            refusals[status] = {"model": schemas.Problem}
        app.post(path, response_model=answer, responses=refusals, openapi_extra=extra)(_plainly(handler))

    def _get(self, app: FastAPI, path: str, handler: Handler, answer: type[BaseModel] | None, **more: Any) -> None:
        extra = {"security": [{"token": []}], **more.pop("openapi_extra", {})}
        app.get(path, response_model=answer, responses=_refusals(), openapi_extra=extra, **more)(_plainly(handler))

    async def match(self, request: Request) -> Response:
        """The best k CSAs for a contact, or the queue's order and why."""
        service = self.service
        admitted(service, request, ("router",))
        deadline_s = deadline_of(service, request)
        body = await body_of(service, request, schemas.MatchBody)
        at_most("k", body.k, service.settings.limits.k)
        decision_id, found = await service.match(
            body.contact.fields(),
            body.k,
            schemas.eligible_of(body.eligible),
            body.queue,
            deadline_s,
            body.decision_id,
            rank=body.rank,
            at=body.at,
        )
        request.scope[KEY].update(
            fallback=found.fallback, candidates=len(found.candidates), roster_version=found.roster_version,
            decision_id=decision_id if body.decision_id is None else None,
        )  # fmt: skip
        return _json(
            {
                "request_id": request.scope[KEY]["request_id"],
                "decision_id": decision_id,
                "candidates": [_candidate(one) for one in found.candidates],
                "fallback": found.fallback,
                "why": found.why,
                "model": found.model,
                "roster_version": found.roster_version,
                "elapsed_ms": {stage: round(seconds * 1e3, 3) for stage, seconds in found.elapsed_s.items()},
            }
        )

    async def assign(self, request: Request) -> Response:
        """One CSA for each of several contacts: all together, or in order of arrival the best who is left."""
        service = self.service
        admitted(service, request, ("router",))
        deadline_s = deadline_of(service, request)
        body = await body_of(service, request, schemas.AssignBody)
        at_most("contacts", len(body.contacts), service.settings.limits.contacts)
        contacts = [{k: v for k, v in one.fields().items() if k != "eligible"} for one in body.contacts]
        eligible = [schemas.eligible_of(one.eligible) for one in body.contacts]
        done = await service.assign(
            contacts, eligible, body.capacity, deadline_s, rank=body.rank, at=body.at,
            method=body.method, wait=None if body.wait is None else body.wait.waiting(),
        )  # fmt: skip
        matcher = service.serving.matcher
        request.scope[KEY].update(contacts=len(contacts), fallbacks=sum(one.fallback is not None for *_, one in done))
        return _json(
            {
                "request_id": request.scope[KEY]["request_id"],
                "assignments": [
                    {
                        "contact_id": contact.get("contact_id"),
                        "decision_id": decision_id,
                        "csa_id": None if chosen is None else chosen.csa_id,
                        "score": None if chosen is None else chosen.score,
                        "p_resolved": None if chosen is None else chosen.p_resolved,
                        "fallback": decision.fallback,
                    }
                    for contact, (decision_id, chosen, decision) in zip(contacts, done, strict=True)
                ],
                "model": matcher.bundle_id,
                "roster_version": max(decision.roster_version for *_, decision in done),
            }
        )

    async def change_roster(self, request: Request) -> Response:
        """Make changes to the roster: all or none, durable and seen by every answer that begins later."""
        service = self.service
        admitted(service, request, ("roster",))
        body = await body_of(service, request, schemas.RosterBody)
        at_most("changes", len(body.changes), service.settings.limits.entries)
        changes = [from_json(one, f"change {i}") for i, one in enumerate(body.changes)]
        version = await service.update_roster(changes)
        request.scope[KEY].update(changes=len(changes), roster_version=version)
        return _json({"request_id": request.scope[KEY]["request_id"], "version": version})

    async def roster(self, request: Request) -> Response:
        """Who is in the roster, some at a time."""
        admitted(self.service, request, ("router", "roster", "supervisor"))
        offset, limit = (_number(request, name, default, most) for name, default, most in _PAGING)

        def work() -> bytes:
            self.service.serving.keeper.follow()
            view = self.service.serving.matcher.roster()
            return to_json({"offset": offset, **view.to_json(slice(offset, offset + limit))})

        return Response(await self.service.blocking(work), media_type="application/json")

    async def feedback(self, request: Request) -> Response:
        """Store what is known of hand-overs; on the disk when this answers."""
        service = self.service
        admitted(service, request, ("router",))
        body = await body_of(service, request, schemas.FeedbackBody)
        at_most("facts", len(body.facts), service.settings.limits.entries)
        facts = [Feedback.of({k: v for k, v in vars(one).items() if v is not None}) for one in body.facts]
        new = await service.feedback(facts)
        request.scope[KEY].update(facts=len(facts), new=new)
        return _json({"request_id": request.scope[KEY]["request_id"], "new": new})

    async def erase(self, request: Request) -> Response:
        """Forget a customer: gone from every store of this service when it answers, from other workers soon after."""
        service = self.service
        admitted(service, request, ("admin",))
        body = await body_of(service, request, schemas.EraseBody)
        found = await service.erase(body.customer_id)
        request.scope[KEY].update(rows=sum(found["rows"].values()), pairs=found["pairs"])
        return _json({"request_id": request.scope[KEY]["request_id"], **found})

    async def explain(self, request: Request) -> Response:
        """Why a CSA has their score for a contact: figures about one person."""
        service = self.service
        admitted(service, request, ("supervisor",))
        body = await body_of(service, request, schemas.ExplainBody)

        def work() -> bytes:
            service.serving.keeper.follow()
            found = service.serving.matcher.explain(body.contact.fields(), body.csa_id, body.rank, body.at, body.top)
            return to_json(found.to_json(), inf_nan_mode="null")

        return Response(await service.blocking(work), media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        admitted(self.service, request, ("metrics",))
        return Response(self.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def healthz(self) -> Response:
        """The process is there."""
        return _json({"status": "ok"})

    async def readyz(self) -> Response:
        """Whether requests should come here."""
        why = self.service.ready()
        return _json({"status": "ready" if why is None else why}, 200 if why is None else 503)


def _plainly(handler: Handler) -> Handler:
    """Errors that a caller can act on as answers."""

    @functools.wraps(handler)
    async def handled(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused:
            raise
        except (StoreUnavailable, JournalError) as error:
            raise Refused(503, str(error), 1.0) from error
        except Conflict as error:
            raise Refused(409, str(error)) from error
        except (MatchError, StoreError) as error:
            raise Refused(422, str(error)) from error

    return handled


def _candidate(one: Candidate) -> dict[str, Any]:
    return {
        "csa_id": one.csa_id,
        "score": one.score,
        "p_resolved": one.p_resolved,
        "uncertainty": one.uncertainty,
        "reasons": [reason._asdict() for reason in one.reasons],
        "expected": one.expected._asdict(),
    }


def _json(content: Any, status: int = 200) -> Response:
    return Response(to_json(content, inf_nan_mode="null"), status, media_type="application/json")


_PAGING = (("offset", 0, 10_000_000), ("limit", 1000, 10_000))


def _number(request: Request, name: str, default: int, most: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not given.isascii() or not given.isdigit() or len(given) > 9 or int(given) > most:
        raise Refused(422, f"{name}: a whole number of at most {most} is expected")
    return int(given)


def _paging() -> dict[str, Any]:
    schemas_ = [(name, {"type": "integer", "minimum": 0, "maximum": most}) for name, _, most in _PAGING]
    return {"parameters": [{"name": n, "in": "query", "required": False, "schema": s} for n, s in schemas_]}


def _refusals() -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.Problem, "description": why} for status, why in REFUSALS.items()}


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = getattr(error, "headers", None)
    said = {404: "no such route", 405: "no such method here"}.get(status, "refused")
    content = to_json({"error": said, "request_id": request.scope[KEY]["request_id"]})
    return Response(content, status, dict(headers or {}), media_type="application/json")


def _openapi(app: FastAPI, asked: dict[str, type[BaseModel]]) -> dict[str, Any]:
    """FastAPI's, with the bodies that routes read themselves."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, routes=app.routes)
        parts = made.setdefault("components", {}).setdefault("schemas", {})
        for name, model in asked.items():
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            parts.update(schema.pop("$defs", {}))
            parts[name] = schema
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = made
    return app.openapi_schema


@asynccontextmanager
async def _nothing(_app: FastAPI) -> Any:
    yield
