"""Answers that a client may already have (ETag, 304), and parts of a growing file (Range)."""

import hashlib
import re
from typing import Mapping, Optional

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from robotni.storage.run_files import RunFiles
from robotni.web.problems import response

TEXT = "text/plain; charset=utf-8"
AT_ONCE = 256 * 1024  # bytes that are read in one go; more is streamed
_RANGE = re.compile(r"bytes=(\d{1,18})-\Z", re.ASCII)


def etag_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'  # most processors know it by heart


def conditional(
    request: Request,
    body: bytes,
    headers: Optional[Mapping[str, str]] = None,
    media_type: str = "application/json",
) -> Response:
    """200 with `body` and its ETag, or 304 when the client names that ETag."""
    etag = etag_of(body)
    all_headers = {**(headers or {}), "ETag": etag}
    named = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if "*" in named or any(
        tag[2:] == etag if tag.startswith("W/") else tag == etag for tag in named
    ):
        return Response(status_code=304, headers=all_headers)
    return Response(body, headers=all_headers, media_type=media_type)


def output_response(request: Request, run_files: Optional[RunFiles]) -> Response:
    """The output so far, or from byte N on (`Range: bytes=N-`); 416 when nothing is there yet.

    Any other Range is ignored, as RFC 9110 allows, so it costs nothing.
    """
    asked = _RANGE.match(request.headers.get("range", ""))
    start = int(asked[1]) if asked else 0
    size = 0 if run_files is None else run_files.output_size()
    if asked and start >= size:
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
    if asked:
        headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
    status = 206 if asked else 200
    if size - start <= AT_ONCE:
        return Response(b"".join(chunks), status, headers, media_type=TEXT)
    headers["Content-Length"] = str(size - start)
    return StreamingResponse(chunks, status, headers, media_type=TEXT)
