"""The web application of one data directory: middleware, error handlers and routes put together.

A request passes, from outside in: the prefix of ROOT_PATH, the timing for `/metrics`, the security
checks, the framework's handling of crashes, CORS where origins are allowed, trailing slashes, and
the routes. While the application runs, a worker is started when one is needed.
"""

import time
from contextlib import asynccontextmanager
from typing import Any, AsyncIterator, Dict, Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from robotni import __version__
from robotni.engine.engine import Engine
from robotni.engine.stats import Stats
from robotni.settings import Settings
from robotni.web import openapi, problems
from robotni.web.autostart import Autostart
from robotni.web.body import Message, Receive, Scope, Send, path_within
from robotni.web.dispatch import Threads
from robotni.web.metrics import RequestTimes
from robotni.web.parameters import StrictRoute
from robotni.web.routes import jobs, pages, queue, status
from robotni.web.security import App, SecurityMiddleware

_WITH_SLASH = frozenset(("/add", "/fakejob", "/queue", "/queue/flush"))


class RequestTimesMiddleware:
    """Adds to `times` how long each request took, from its head to the end of its answer."""

    def __init__(self, app: App, times: RequestTimes) -> None:
        self.app = app
        self._times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, send_and_note_status)
        finally:
            self._times.observe(scope["method"], status, time.perf_counter() - began)


class TrailingSlashMiddleware:
    """Every path is served with and without the trailing slash, without a redirect."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            inner = path_within(scope)
            root = scope["path"][: len(scope["path"]) - len(inner)]
            path = inner.rstrip("/") or "/"
            scope = {**scope, "path": f"{root}{path}/" if path in _WITH_SLASH else root + path}
        await self.app(scope, receive, send)


class Api(FastAPI):
    """FastAPI under the prefix of ROOT_PATH, with the security checks around all of it.

    A prefix that comes with the request, from a mount or `uvicorn --root-path`, has precedence. No
    header sets it: any client could send one.
    """

    def __init__(
        self, settings: Settings, autostart: Autostart, times: RequestTimes, **options: Any
    ) -> None:
        super().__init__(**options)
        self._settings = settings
        self._autostart = autostart
        self._times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._autostart.start()  # a mounted app's lifespan is not entered
            prefix = self._settings.root_path
            if prefix and not scope.get("root_path"):
                scope = _with_prefix(scope, prefix)
        await super().__call__(scope, receive, send)

    def build_middleware_stack(self) -> Any:
        """Around the framework's own, so that its answer to a crash has our headers, too."""
        secured = SecurityMiddleware(
            super().build_middleware_stack(), self._settings, problems.render
        )
        return RequestTimesMiddleware(secured, self._times)

    def openapi(self) -> Dict[str, Any]:
        return openapi.complete(super().openapi())


def _with_prefix(scope: Scope, prefix: str) -> Scope:
    """`scope` as if mounted at `prefix`, which a proxy may have removed from the path."""
    scope = {**scope, "root_path": prefix}
    if path_within(scope) == scope["path"]:
        scope["path"] = prefix + scope["path"]
    return scope


def create_api(settings: Settings, engine: Engine, stats: Stats, autostart: Autostart) -> FastAPI:
    threads = Threads(engine)
    times = RequestTimes()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        autostart.start()
        yield
        autostart.stop()
        await threads.close()

    app = Api(
        settings,
        autostart,
        times,
        title="robotni",
        version=__version__,
        description="Runs Python scripts in virtual environments of their own: submit, then poll.",
        lifespan=lifespan,
        openapi_url=None,  # it is one of `routes/pages.py`
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.router.route_class = StrictRoute
    app.state.engine = engine
    app.state.autostart = autostart
    problems.install(app)
    jobs.add_routes(app, engine, threads)
    status.add_routes(app, engine, stats, threads, autostart, times)
    queue.add_routes(app, engine, threads)
    pages.add_routes(app)
    status.add_health_routes(app, engine, threads, autostart, times)
    app.add_middleware(TrailingSlashMiddleware)
    if settings.allowed_origins:
        _allow_origins(app, settings.allowed_origins)
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
