"""Errors over HTTP, as problems (RFC 9457): the one place that maps error codes to a status.

Every error of the API has this form, whether robotni or the framework found it.
"""

import json
from http import HTTPStatus
from typing import Any, Dict, List, Mapping, Optional, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from robotni import log
from robotni.errors import FieldError, InvalidRequest, MachineFault, QueueFull, RobotniError

STATUS = {
    "invalid_request": 422,
    "not_found": 404,
    "conflict": 409,
    "queue_full": 429,
    "storage_full": 507,
    "database_replaced": 503,
    "machine_fault": 503,
}
_TITLES = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}  # others on Python 3.13
_DETAILS = {
    404: "there is nothing at this path; /docs lists the paths that exist",
    405: "this path does not take this method; the header Allow lists those it takes",
}
_SENTENCES = {
    "missing": "this is missing; send it",
    "model_type": "this must be a JSON object",
    "model_attributes_type": "this must be a JSON object",
    "extra_forbidden": "this field is unknown; /docs lists the fields that exist",
    "string_type": "this must be a string; write it in double quotes",
    "list_type": "this must be a list; write it in [ ]",
    "dict_type": "this must be an object; write it in { }",
    "bool_type": "this must be true or false; write it without quotes",
    "int_type": "this must be a whole number; write it like 3, without quotes",
    "int_parsing": "this must be a whole number, such as 50",
    "float_type": "this must be a number; write it without quotes",
    "float_parsing": "this must be a number, such as 1.5",
}


class ProblemError(BaseModel):
    pointer: str
    detail: str


class Problem(BaseModel):
    """RFC 9457. `errors` comes with 422; each has a JSON pointer into the request."""

    title: str
    status: int
    detail: str
    code: str
    errors: Optional[List[ProblemError]] = None


def render(
    status: int, code: str, detail: str, errors: Optional[Sequence[FieldError]] = None
) -> bytes:
    problem: Dict[str, Any] = {
        "title": title(status),
        "status": status,
        "detail": detail,
        "code": code,
    }
    if status == 422:
        problem["errors"] = [e._asdict() for e in errors or ()]
    return json.dumps(problem).encode()


def title(status: int) -> str:
    """The same on every Python."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


def response(
    status: int,
    code: str,
    detail: str,
    errors: Optional[Sequence[FieldError]] = None,
    headers: Optional[Mapping[str, str]] = None,
) -> Response:
    body = render(status, code, detail, errors)
    return Response(body, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem. The handlers are coroutines, since the framework runs
    others in a thread, which the machine may be unable to start."""
    app.add_exception_handler(RobotniError, _robotni_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    for fault in (OSError, MemoryError):
        app.add_exception_handler(fault, _machine_fault)
    app.add_exception_handler(Exception, _unexpected)


async def _robotni_error(request: Request, error: Any) -> Response:
    errors = error.errors if isinstance(error, InvalidRequest) else None
    headers = {"Retry-After": "5"} if isinstance(error, (QueueFull, MachineFault)) else None
    return response(STATUS.get(error.code, 500), error.code, str(error), errors, headers)


async def _validation_error(request: Request, error: Any) -> Response:
    """What FastAPI found wrong, as pointers and sentences."""
    errors = [FieldError(pointer(e["loc"]), _sentence(e)) for e in error.errors()][:50]
    detail = "; ".join(f"{e.pointer or 'the body'}: {e.detail}" for e in errors)
    return await _robotni_error(request, InvalidRequest(errors, detail))


async def _http_exception(request: Request, error: Any) -> Response:
    code = title(error.status_code).lower().replace(" ", "_")
    detail = _DETAILS.get(error.status_code, str(error.detail))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return response(error.status_code, code, detail, headers=headers)


def _allowed(request: Request) -> str:
    """The methods that any route has for this path; the framework names those of the first."""
    methods = [
        method
        for method in ("GET", "HEAD", "POST", "DELETE")
        for scope in [{**request.scope, "method": method}]
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(methods)


async def _machine_fault(request: Request, error: Exception) -> Response:
    """An error of the system that no part has explained; "it is not there" would be ours."""
    if isinstance(error, FileNotFoundError):
        raise error
    log.failed("request")
    return await _robotni_error(request, machine_fault(error))


def machine_fault(error: Exception) -> MachineFault:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return MachineFault(
        f"the machine could not serve this request ({reason}); see what it lacks (open files, "
        "memory, processes, a working disk) and try again"
    )


async def _unexpected(request: Request, error: Exception) -> Response:
    detail = "robotni failed at this request; its log holds the reason, and nothing was stored"
    return response(500, "internal_error", detail, headers={"Connection": "close"})


def pointer(loc: Sequence[Any]) -> str:
    """The JSON pointer of a place in the request, as FastAPI names it."""
    parts = loc[1:] if loc and loc[0] in ("body", "query", "path", "header") else loc
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in parts)


def _sentence(error: Mapping[str, Any]) -> str:
    message = error["msg"].replace("Value error, ", "")
    if not message[:2].isupper():  # a name in capitals stays as it is
        message = f"{message[:1].lower()}{message[1:]}"
    return str(_SENTENCES.get(error["type"], message))[:500]
