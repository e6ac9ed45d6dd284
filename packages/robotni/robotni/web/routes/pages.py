"""The pages: the files of `web/`, served with a strict Content-Security-Policy.

Browsers ask again each time and get 304; what is sent is compressed for all who take that. A file
is read when it is first asked for: all of them are 2 MB, and most servers never show a page.
"""

import gzip
import mimetypes
from functools import lru_cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from robotni.errors import NotFound
from robotni.web.responses import conditional

_WEB = Path(__file__).parents[1] / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": CSP, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
_SMALL = 1024  # bytes, of which compressing saves nothing


def create_router() -> APIRouter:
    """`/webdemo`, `/docs` and the files they load, `/webdemo/…`."""
    router = APIRouter(include_in_schema=False)
    files = {path.relative_to(_WEB).as_posix(): path for path in _WEB.rglob("*") if path.is_file()}

    @lru_cache(maxsize=None)
    def content(name: str) -> bytes:
        return files[name].read_bytes()

    @lru_cache(maxsize=None)
    def compressed(name: str) -> bytes:
        return gzip.compress(content(name), mtime=0)

    def send(request: Request, name: str) -> Response:
        if name not in files:
            raise NotFound("there is no such page; /webdemo and /docs are")
        kind = mimetypes.guess_type(name)[0] or "text/plain"
        if len(content(name)) < _SMALL or "gzip" not in request.headers.get("accept-encoding", ""):
            return conditional(request, content(name), _HEADERS, kind)
        headers = {**_HEADERS, "Content-Encoding": "gzip"}
        return conditional(request, compressed(name), headers, kind)

    def page(request: Request, path: str, name: str) -> Response:
        """Relative links, here too: they hold under any prefix, but not behind a last slash."""
        if request.scope.get("raw_path", b"").endswith(b"/"):
            return RedirectResponse(f"../{path}")
        return send(request, name)

    @router.get("/")
    def root(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/webdemo")

    @router.get("/webdemo")
    def webdemo(request: Request) -> Response:
        return page(request, "webdemo", "index.html")

    @router.get("/docs")
    def docs(request: Request) -> Response:
        return page(request, "docs", "docs.html")

    @router.get("/webdemo/{name:path}")
    def file(request: Request, name: str) -> Response:
        return send(request, name)

    return router
