"""Query parameters: one that a call does not know, or that is given twice, is an error.

Otherwise a wrong name would be ignored, and `?state=failed` would list all jobs.
"""

from typing import Any, Callable, Coroutine, Sequence

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams
from starlette.responses import Response

from robotni.errors import FieldError, InvalidRequest
from robotni.web.problems import pointer

MAX_ERRORS = 50


class StrictRoute(APIRoute):
    """A route that takes only the query parameters that its endpoint declares, each once."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = [parameter.alias for parameter in self.dependant.query_params]

        async def check_and_handle(request: Request) -> Response:
            if request.url.query:
                _check(request.query_params, known)
            return await handle(request)

        return check_and_handle


def _check(given: QueryParams, known: Sequence[str]) -> None:
    errors = []
    for name in given:
        if name not in known:
            takes = f"takes {', '.join(known)}" if known else "takes no query parameters"
            detail = f"{name[:40]!r} is unknown; this call {takes}"
        elif len(given.getlist(name)) > 1:
            detail = f"{name} is given more than once; give it once"
        else:
            continue
        errors.append(FieldError(pointer([name[:200]]), detail))
    if errors:
        raise InvalidRequest(errors[:MAX_ERRORS])
