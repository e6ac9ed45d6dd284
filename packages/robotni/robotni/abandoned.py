"""Requests whose client leaves before its answer: what was not begun for them is not begun.

For what takes long and waits for others like it, a search: a page that is left, or a client out of
patience that asks again, must not hold up who comes after.
"""

import asyncio
from functools import wraps
from typing import Any, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[..., Awaitable[Response]]


def while_wanted(endpoint: Endpoint) -> Endpoint:
    """Decorates an endpoint that is called with its request, first, and takes no body: it is
    cancelled when the client leaves."""

    @wraps(endpoint)
    async def watched(request: Request, *args: Any, **kwargs: Any) -> Response:
        answer = asyncio.ensure_future(endpoint(request, *args, **kwargs))
        gone = asyncio.ensure_future(_departure(request))
        try:
            done, _ = await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer in done or gone.exception() is not None:
                return await answer
            return Response(status_code=503)  # nobody sees it
        finally:
            answer.cancel()
            gone.cancel()

    return watched


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
