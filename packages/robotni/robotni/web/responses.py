"""Answers that a client may have already (ETag, 304), and a part of an output (Range, 206)."""

import hashlib
import re
from typing import Mapping, Optional

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from robotni.storage.run_files import RunFiles
from robotni.web.problems import response

TEXT = "text/plain; charset=utf-8"
MAX_WHOLE = 256 * 1024  # bytes that are sent as a whole; more is streamed
_RANGE = re.compile(r"bytes=(?:(?P<first>\d{1,18})-|-(?P<last>\d{1,18}))\Z", re.ASCII)


def conditional(
    request: Request,
    body: bytes,
    headers: Optional[Mapping[str, str]] = None,
    media_type: str = "application/json",
) -> Response:
    """200 with `body` and its ETag, or 304 when If-None-Match has that ETag."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    all_headers = {**(headers or {}), "ETag": etag}
    tags = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if "*" in tags or etag in [tag[2:] if tag.startswith("W/") else tag for tag in tags]:
        return Response(status_code=304, headers=all_headers)
    return Response(body, headers=all_headers, media_type=media_type)


def output_response(request: Request, run_files: Optional[RunFiles]) -> Response:
    """The output so far, or from byte N on (`Range: bytes=N-`), or its last N bytes (`bytes=-N`);
    416 when there is nothing of that yet.

    Any other Range is ignored, as RFC 9110 allows, so it costs nothing. `run_files` is None before
    the first attempt.
    """
    match = _RANGE.match(request.headers.get("range", ""))
    size = 0 if run_files is None else run_files.output_size()
    start = _start(match, size) if match else 0
    if match and start >= size:
        return response(
            416,
            "nothing_there_yet",
            f"the output has {size} bytes so far; ask again from byte {size} later",
            headers={"Content-Range": f"bytes */{size}"},
        )
    if run_files is None:
        return Response(b"", media_type=TEXT, headers={"Accept-Ranges": "bytes"})
    chunks = run_files.read_from(start, size - start).chunks
    headers = {"Accept-Ranges": "bytes"}
    if match:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    status = 206 if match else 200
    if size - start <= MAX_WHOLE:
        return Response(b"".join(chunks), status, headers, media_type=TEXT)
    headers["Content-Length"] = str(size - start)
    return StreamingResponse(chunks, status, headers, media_type=TEXT)


def _start(asked: "re.Match[str]", size: int) -> int:
    """The first byte that a Range asks for."""
    return int(asked["first"]) if asked["last"] is None else max(0, size - int(asked["last"]))
