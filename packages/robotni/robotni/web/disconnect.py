"""Requests whose client leaves before its answer: what was not begun for them is not begun.

For what takes long and waits for others like it, a search: a page that is left, or a client out of
patience that asks again, must not hold up who comes after. Whether the client has left, the server
says without being asked: to wait for its message changes how it reads, and what stands between may
not expect it.
"""

from functools import wraps
from typing import Any, Callable

from starlette.requests import Request
from starlette.responses import Response

from robotni.web.body import Receive, Scope

EXCHANGE = "robotni.exchange"  # where in a scope the server's side of a request is, if it shows it


def keep_exchange(scope: Scope, receive: Receive) -> None:
    """For `while_wanted`. uvicorn's `receive` is a method of what knows of its client."""
    scope[EXCHANGE] = getattr(receive, "__self__", None)


def while_wanted(endpoint: Callable[..., Response]) -> Callable[..., Response]:
    """Decorates an endpoint that is called with its request, first: not when the client has left.
    Servers that do not say so have it called."""

    @wraps(endpoint)
    def unless_gone(request: Request, *args: Any, **kwargs: Any) -> Response:
        if getattr(request.scope.get(EXCHANGE), "disconnected", False) is True:
            return Response(status_code=499)  # nobody sees it; counted as the client's doing
        return endpoint(request, *args, **kwargs)

    return unless_gone
