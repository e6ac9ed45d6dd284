"""Errors over HTTP: the one place that maps codes to status, as RFC 9457 problems."""

import json
from http import HTTPStatus
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from robotni.errors import FieldError, InvalidRequest, QueueFull, RobotniError
from robotni.jobs.request import JobRequest

STATUS = {
    "invalid_request": 422,
    "not_found": 404,
    "conflict": 409,
    "queue_full": 429,
    "storage_full": 507,
}
_RENAMED = {413: "Request Entity Too Large", 422: "Unprocessable Entity"}  # by Python 3.13
_DETAILS = {
    404: "there is nothing at this path; /docs lists what there is",
    405: "this path knows other methods; see the header Allow",
}
_SENTENCES = {
    "missing": "this is missing; send it",
    "model_type": "this must be a JSON object",
    "model_attributes_type": "this must be a JSON object",
    "extra_forbidden": "there is no such field; {fields}",
    "string_type": "this is no text; write it in double quotes",
    "list_type": "this is no list; write it in [ ]",
    "dict_type": "this is no object; write it in { }",
    "bool_type": "this is neither true nor false; write one of them, without quotes",
    "int_type": "this is no whole number; write it without quotes and fraction",
    "int_parsing": "this is no whole number; give one, such as 50",
    "float_type": "this is no number; write it without quotes",
    "float_parsing": "this is no number; give one, such as 1.5",
}


class ProblemError(BaseModel):
    pointer: str
    detail: str


class Problem(BaseModel):
    """RFC 9457. `errors` comes with 422 and points into the request."""

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
    return _RENAMED.get(status) or HTTPStatus(status).phrase


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
    """Makes every error of `app` a problem."""
    app.add_exception_handler(RobotniError, _robotni_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)


def _robotni_error(request: Request, error: Any) -> Response:
    errors = error.errors if isinstance(error, InvalidRequest) else None
    headers = {"Retry-After": "5"} if isinstance(error, QueueFull) else None
    return response(STATUS.get(error.code, 500), error.code, str(error), errors, headers)


def _validation_error(request: Request, error: Any) -> Response:
    return _robotni_error(request, _invalid(error.errors()))


def _http_exception(request: Request, error: Any) -> Response:
    code = title(error.status_code).lower().replace(" ", "_")
    detail = _DETAILS.get(error.status_code, str(error.detail))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return response(error.status_code, code, detail, headers=headers)


def _allowed(request: Request) -> str:
    """The methods of a path: its routes' together, where the framework names the first one's."""
    methods = [
        method
        for method in ("GET", "HEAD", "POST", "DELETE")
        for scope in [{**request.scope, "method": method}]
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]
    return ", ".join(methods)


def _unexpected(request: Request, error: Exception) -> Response:
    detail = "robotni failed at this; its log says why, and nothing was stored"
    return response(500, "internal_error", detail, headers={"Connection": "close"})


def validated(value: Any) -> JobRequest:
    """The submit that a body's `value` is; InvalidRequest with a pointer to each wrong field."""
    try:
        return JobRequest.model_validate(value)
    except ValidationError as error:
        names = (field.alias or name for name, field in JobRequest.model_fields.items())
        raise _invalid(error.errors(), f"known are {', '.join(names)}") from None


def _invalid(faults: Iterable[Any], fields: str = "/docs lists what there is") -> InvalidRequest:
    """Pydantic's faults as pointers and sentences; `fields` says which fields there are."""
    errors = [FieldError(_pointer(f["loc"]), _sentence(f, fields)) for f in faults][:50]
    said = (f"{error.pointer or 'the body'}: {error.detail}" for error in errors)
    return InvalidRequest(errors, "; ".join(said))


def _pointer(loc: Sequence[Any]) -> str:
    parts = loc[1:] if loc and loc[0] in ("body", "query", "path", "header") else loc
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in parts)


def _sentence(fault: Mapping[str, Any], fields: str) -> str:
    message = fault["msg"].replace("Value error, ", "")
    if not message[:2].isupper():  # a name in capitals stays as it is
        message = f"{message[:1].lower()}{message[1:]}"
    message = _SENTENCES.get(fault["type"], message)
    return message.replace("{fields}", fields)[:500]
