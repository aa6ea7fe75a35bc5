"""The routes: what each takes, and what it answers."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_esr import __version__
from llm_esr.serving.http.batching import Batcher, FullError
from llm_esr.serving.http.bodies import Answer, Health, RecommendBody, SimilarBody
from llm_esr.serving.http.limits import Limits
from llm_esr.serving.http.metrics import Metrics
from llm_esr.serving.http.problems import ErrorBody, RequestError, of_validation
from llm_esr.serving.http.served_model import ServedModel, Wanted, score_batch, state_of

log = logging.getLogger("llm_esr.serving")
Load = Callable[[], ServedModel]
_Body = TypeVar("_Body", bound=BaseModel)
_PATHS = ("/recommend", "/similar", "/health", "/metrics", "/docs", "/openapi.json")
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": words}
    for status, words in {
        400: "No JSON", 404: "An unknown user or item", 408: "The body came too slowly", 413: "The body is too large",
        422: "A wrong or too large value", 503: "Too much is waiting",
    }.items()
}  # fmt: skip


class Server:
    """What the routes share: the model that is served now, the batches, the counts.

    Args:
        load: opens the model.
        limits: what a request may ask for.
        ready: called once when requests are taken.

    """

    def __init__(self, load: Load, limits: Limits, ready: Callable[[ServedModel], None] = lambda model: None) -> None:
        self.load, self.limits, self.ready = load, limits, ready
        self.metrics = Metrics()
        self.model = load()
        self.failed: str | None = None
        self.metrics.serves(self.model.name, self.model.loaded)
        self.batcher: Batcher[Wanted, dict[str, Any]] = Batcher(
            score_batch, lambda one: one.kind, waiting=limits.waiting, told=self.metrics.batches.observe
        )
        self.others = ThreadPoolExecutor(1, thread_name_prefix="similar")  # keeps lists from waiting for these
        self._swapping = asyncio.Lock()

    async def reload(self) -> None:
        """Swap the model for what lies in its folder; the old one serves meanwhile, and goes on where that fails."""
        async with self._swapping:
            try:
                model = await asyncio.to_thread(self.load)
            except Exception as error:
                self.failed = " ".join(str(error).split()) or type(error).__name__
                self.metrics.reloads.labels("failed").inc()
                log.warning("the model could not be swapped, the old one goes on: %s", self.failed)
                return
            self.model, self.failed = model, None
            self.metrics.serves(model.name, model.loaded)
            self.metrics.reloads.labels("done").inc()
            log.warning("serving %s, loaded %s", model.name, model.loaded)

    async def recommend(self, body: RecommendBody) -> dict[str, Any]:
        """The lists of a request."""
        model = self.model
        try:
            lists = await self.batcher.submit(model.wanted(body))
        except FullError:
            words = f"{self.limits.waiting:,} lists are waiting already; ask again in a second"
            raise RequestError(503, "busy", words) from None
        return {"model": model.name, "lists": lists}

    async def similar(self, body: SimilarBody) -> dict[str, Any]:
        """The items like some items."""
        model = self.model
        lists = await asyncio.get_running_loop().run_in_executor(self.others, model.similar, body)
        return {"model": model.name, "lists": lists}


class Counted:
    """Counts requests by path and status, and times them.

    Args:
        app: what answers.
        metrics: the counts.

    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except ClientDisconnect:
            status = 499
        finally:
            path = scope["path"] if scope["path"] in _PATHS else "other"
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(time.perf_counter() - began)


def make_app(server: Server) -> FastAPI:
    """The application, whose routes ask `server`."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        server.batcher.start()
        server.ready(server.model)
        yield
        await server.batcher.stop()
        server.others.shutdown()

    app = FastAPI(title="llm-esr", version=__version__, lifespan=life, redoc_url=None)

    app.add_middleware(Counted, metrics=server.metrics)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        words = f"{type(error).__name__}: this should have been a clear message: please report it with the server's log"
        return refusal(RequestError(500, "unforeseen", words))

    @app.exception_handler(RequestError)
    async def refused(request: Request, problem: RequestError) -> Response:
        return refusal(problem)

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return refusal(
                RequestError(404, "no_route", f"there is no {request.url.path[:80]}; there are {', '.join(_PATHS)}")
            )
        return refusal(
            RequestError(error.status_code, "no_route", f"{request.method} {request.url.path[:80]}: {error.detail}")
        )

    async def read(request: Request, kind: type[_Body]) -> _Body:
        try:
            return kind.model_validate_json(await _content(request, server.limits))
        except ValidationError as error:
            raise of_validation(error) from None

    @app.post("/recommend", response_model=Answer, responses=_REFUSALS, openapi_extra=_takes(RecommendBody))
    async def recommend(request: Request) -> Response:
        """Lists for known users, or for histories of people who need not be known."""
        return _json(await server.recommend(await read(request, RecommendBody)))

    @app.post("/similar", response_model=Answer, responses=_REFUSALS, openapi_extra=_takes(SimilarBody))
    async def similar(request: Request) -> Response:
        """Items that are like some items."""
        return _json(await server.similar(await read(request, SimilarBody)))

    @app.get("/health", response_model=Health)
    async def health() -> Response:
        """What is served."""
        model = server.model
        return _json({
            "status": "ok", "model": model.name, "users": model.data.n_users, "items": model.data.n_items,
            "loaded": model.loaded, "last_reload_failed": server.failed,
        })  # fmt: skip

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        server.metrics.waiting.set(len(server.batcher))
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4")

    return app


async def watch(server: Server, folder: Any, seconds: float) -> None:
    """Swap the model whenever another one lies in the folder; never returns."""
    known = state_of(folder)
    while True:
        await asyncio.sleep(seconds)
        with suppress(OSError, ValueError):  # half of it is there
            found = state_of(folder)
            if found != known:
                known = found
                await server.reload()


def refusal(problem: RequestError) -> Response:
    """The answer to a request that is refused."""
    response = _json(problem.body(), problem.status)
    if problem.status == 503:
        response.headers["Retry-After"] = "1"
    return response


def _json(value: Any, status: int = 200) -> Response:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, media_type="application/json")


async def _content(request: Request, limits: Limits) -> bytes:
    """The body, no byte more than the limit.

    Raises:
        RequestError: it is larger, or comes too slowly.

    """
    too_large = RequestError(413, "too_large", f"the body has more than {limits.body:,} bytes; ask in several requests")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and len(said) < 20 and int(said) > limits.body:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                found += chunk
                if len(found) > limits.body:
                    raise too_large
    except TimeoutError:
        words = f"the body did not come within {limits.seconds:g} seconds"
        raise RequestError(408, "too_slow", words) from None
    return bytes(found)


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    """The body of a route for the OpenAPI page: bodies are read by hand, for their limits and our words."""
    schema = kind.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
