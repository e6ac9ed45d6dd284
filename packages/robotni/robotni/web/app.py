"""The web application: guard, errors, routes and the thread that keeps a worker alive.

Budget: 0.7 ms of CPU for a submit, with the extra `fast`, of the 2.4 ms that a cold job costs
beyond its script's own 8.1 (web 0.7, worker 1.1, shim 0.6; a no-op among hundreds on two cores, by
the scheduler's own count). Alone and hot a submit takes 0.28: what runs in between empties caches.
"""

import time
from collections import deque
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Deque, Dict, Optional, Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from robotni import __version__
from robotni.engine.engine import Engine
from robotni.engine.stats import Stats
from robotni.settings import Settings
from robotni.web import openapi, problems
from robotni.web.autostart import Autostart
from robotni.web.body import Message, Receive, Scope, Send, path_within
from robotni.web.disconnect import keep_exchange
from robotni.web.dispatch import Lane, limit_others
from robotni.web.latency import Answers
from robotni.web.routes import jobs as routes_worker
from robotni.web.routes import pages
from robotni.web.routes import queue as routes_queue
from robotni.web.routes import status as routes_status
from robotni.web.security import App, SecurityMiddleware

_SLASHED = frozenset(("/add", "/fakejob", "/queue", "/queue/flush"))


class LatencyMiddleware:
    """Durations of the last 1,000 requests; uploads and downloads count."""

    def __init__(self, app: App, durations: Deque[float], answers: Answers) -> None:
        self.app = app
        self._durations = durations
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def heard(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, heard)
        finally:
            took = time.perf_counter() - began
            self._durations.append(took)
            self._answers.observe(scope["method"], status, took)


class TrailingSlashMiddleware:
    """Every path is served with and without the trailing slash, without a redirect."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            inner = path_within(scope)
            root = scope["path"][: len(scope["path"]) - len(inner)]
            path = inner.rstrip("/") or "/"
            scope = {**scope, "path": f"{root}{path}/" if path in _SLASHED else root + path}
        await self.app(scope, receive, send)


class Api(FastAPI):
    """FastAPI with the document completed, under the prefix of ROOT_PATH.

    A prefix that comes with the request, from a mount or `uvicorn --root-path`, goes before it.
    No header is asked for it: a stranger could write one.
    """

    def __init__(self, prefix: str, autostart: Autostart, **options: Any) -> None:
        super().__init__(**options)
        self._prefix = prefix
        self._autostart = autostart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._autostart.watch()
            keep_exchange(scope, receive)
            if self._prefix and not scope.get("root_path"):
                scope = prefixed(scope, self._prefix)
        await super().__call__(scope, receive, send)

    def openapi(self) -> Dict[str, Any]:
        return openapi.complete(super().openapi())


def prefixed(scope: Scope, prefix: str) -> Scope:
    """`scope` as if mounted at `prefix`, which the proxy may have taken off the path."""
    scope = {**scope, "root_path": prefix}
    if path_within(scope) == scope["path"]:
        scope["path"] = prefix + scope["path"]
    return scope


def create_api(settings: Settings, engine: Engine, stats: Stats, autostart: Autostart) -> FastAPI:
    """The application of one data directory. While it runs, a worker is started when needed."""
    durations: Deque[float] = deque(maxlen=1000)
    answers = Answers()
    reads, searches, writes = Lane("reader"), Lane("searcher"), Lane("writer")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limit_others()
        autostart.watch()
        yield
        autostart.stop()
        for lane in (reads, searches, writes):  # each closes what it has open of the database
            await lane(engine.close)()

    app = Api(
        prefix=settings.root_path,
        autostart=autostart,
        title="robotni",
        version=__version__,
        description="Runs Python scripts in virtual environments of their own: submit, then poll.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=dict.fromkeys(("tracing", "metrics", "logs"), False),  # asked for at each request
    )
    app.state.engine = engine
    app.state.autostart = autostart
    problems.install(app)
    for router in (
        routes_worker.create_router(engine, reads, searches, writes),
        routes_status.create_router(
            engine,
            stats,
            reads,
            searches,
            autostart.is_worker_running,
            autostart.warm,
            lambda: p95(durations),
        ),
        routes_queue.create_router(engine, reads, writes),
        pages.create_router(),
    ):
        app.router.routes += router.routes  # themselves: `include_router` puts a search before them
    _add_health(app, engine, reads)
    _add_metrics(app, engine, autostart, answers, reads)
    app.add_middleware(TrailingSlashMiddleware)
    if settings.allowed_origins:
        _allow_origins(app, settings.allowed_origins)
    # Around all that the framework does, so that the answer to a crash has the guard's headers too.
    guarded = SecurityMiddleware(app.build_middleware_stack(), settings, problems.render)
    app.middleware_stack = LatencyMiddleware(guarded, durations, answers)
    return app


def _allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Range"],
        expose_headers=[
            "Location",
            "ETag",
            "Retry-After",
            "Link",
            "Content-Range",
            "Idempotent-Replayed",
        ],
    )


_HEALTHY = {"content": {"application/json": {"example": {"status": "ok"}}}}


def _add_health(app: FastAPI, engine: Engine, reads: Lane) -> None:
    @app.get(
        "/livez",
        tags=["health"],
        operation_id="isAlive",
        summary="The process answers",
        responses={200: _HEALTHY},
    )
    async def livez() -> Any:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["health"],
        operation_id="isReady",
        summary="Store and queue can be used",
        responses={200: _HEALTHY, **openapi.described(507)},
    )
    @reads
    def readyz() -> Any:
        engine.check()
        return {"status": "ok"}


def _add_metrics(
    app: FastAPI, engine: Engine, autostart: Autostart, answers: Answers, reads: Lane
) -> None:
    @app.get(
        "/metrics",
        tags=["health"],
        operation_id="getMetrics",
        summary="Figures as Prometheus reads them",
        responses={
            200: {"content": {"text/plain": {"example": "robotni_workers_max 4.0\n"}}},
            **openapi.described(),
        },
        response_class=Response,
    )
    @reads
    def get_metrics() -> Response:
        from robotni.web.metrics import CONTENT_TYPE, Metrics  # 1.3 MB that most servers never need

        figures = (engine.status, engine.ended_totals, autostart.is_worker_running)
        text = Metrics(*figures, answers).render()
        return Response(text, headers={"Content-Type": CONTENT_TYPE})


def p95(durations: Deque[float]) -> Optional[float]:
    """In milliseconds; None before the first request."""
    ordered = sorted(durations)
    return round(1000 * ordered[int(0.95 * (len(ordered) - 1))], 3) if ordered else None
