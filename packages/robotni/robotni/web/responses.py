"""Answers that a client may have already (ETag, 304), and a part of an output (Range, 206)."""

import hashlib
import re
from typing import List, Mapping, Optional

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from robotni.engine.engine import JobOutput
from robotni.storage.output import Output, Part, Stretch, size_of
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


def output_response(request: Request, output: Optional[JobOutput]) -> Response:
    """The output so far, or a part of it; 416 when nothing is there yet.

    Without Range a line stands for what was left out. A part never spans what was left out: from
    byte N on (`bytes=N-`) is from the first kept byte after it. Any other Range is ignored, as RFC
    9110 allows, so it costs nothing.
    """
    kept = Output(None) if output is None else output.run_files.open_output()
    part = _asked_part(request, kept)
    if part is None:
        return _text(kept, kept.whole(0 if output is None else output.written))
    if part.start == part.end:
        kept.close()
        return response(
            416,
            "nothing_there_yet",
            f"the output has {kept.size} bytes so far; ask again from byte {kept.size} later",
            headers={"Content-Range": f"bytes */{kept.size}"},
        )
    content_range = f"bytes {part.start}-{part.end - 1}/{kept.size}"
    return _text(kept, [part], 206, {"Content-Range": content_range})


def _asked_part(request: Request, kept: Output) -> Optional[Stretch]:
    """The part that the client asks for, perhaps an empty one; None when it asks for all."""
    asked = _RANGE.match(request.headers.get("range", ""))
    if asked is None:
        return None
    if asked["last"]:
        return kept.last(int(asked["last"]))
    return kept.stretch_from(int(asked["first"]))


def _text(
    kept: Output, parts: List[Part], status: int = 200, headers: Optional[Mapping[str, str]] = None
) -> Response:
    size, chunks = size_of(parts), kept.chunks(*parts)
    all_headers = {**(headers or {}), "Accept-Ranges": "bytes"}
    if size <= MAX_WHOLE:
        return Response(b"".join(chunks), status, all_headers, media_type=TEXT)
    all_headers["Content-Length"] = str(size)
    return StreamingResponse(chunks, status, all_headers, media_type=TEXT)
