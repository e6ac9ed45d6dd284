"""The pages `/webdemo` and `/docs`, `/openapi.json`, and the files of `static/` that they load.

A strict Content-Security-Policy goes with all of them. Browsers ask again each time and get 304;
what is sent is compressed for clients that accept it. A file is read when it is first asked for.
"""

import gzip
import json
import mimetypes
from functools import lru_cache
from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response

from robotni.errors import NotFound
from robotni.web.responses import conditional

_STATIC = Path(__file__).parents[1] / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": CSP, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
_SMALL = 1024  # bytes, below which compression gains nothing


def add_routes(app: FastAPI) -> None:
    files = {
        path.relative_to(_STATIC).as_posix(): path for path in _STATIC.rglob("*") if path.is_file()
    }

    @lru_cache(maxsize=None)
    def content(name: str) -> bytes:
        return files[name].read_bytes()

    @lru_cache(maxsize=None)
    def compressed(name: str) -> bytes:
        return gzip.compress(content(name), mtime=0)

    def send(request: Request, name: str) -> Response:
        if name not in files:
            raise NotFound("there is no such page; the pages are /webdemo and /docs")
        media_type = mimetypes.guess_type(name)[0] or "text/plain"
        if len(content(name)) < _SMALL or "gzip" not in request.headers.get("accept-encoding", ""):
            return conditional(request, content(name), _HEADERS, media_type)
        headers = {**_HEADERS, "Content-Encoding": "gzip"}
        return conditional(request, compressed(name), headers, media_type)

    def page(request: Request, path: str, name: str) -> Response:
        """The links of a page are relative, so it must not be read from a path that ends in `/`."""
        if request.scope.get("raw_path", b"").endswith(b"/"):
            return RedirectResponse(f"../{path}")
        return send(request, name)

    @app.get("/", include_in_schema=False)
    def root(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/webdemo")

    @app.get("/webdemo", include_in_schema=False)
    def webdemo(request: Request) -> Response:
        return page(request, "webdemo", "index.html")

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> Response:
        return page(request, "docs", "docs.html")

    @app.get("/openapi.json", include_in_schema=False)
    def openapi(request: Request) -> Response:
        prefix = request.scope.get("root_path", "")
        servers = {"servers": [{"url": prefix}]} if prefix else {}
        return conditional(request, json.dumps({**app.openapi(), **servers}).encode())

    @app.get("/webdemo/{name:path}", include_in_schema=False)
    def file(request: Request, name: str) -> Response:
        return send(request, name)
