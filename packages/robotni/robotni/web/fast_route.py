"""Endpoints that are called straight: with the request, parts of the path and the query.

The framework finds out at each request what an endpoint may want, which takes longer than a read.
Here that is done once: what comes in the query is checked by one model, made of the endpoint's own
signature, of which the framework makes the document as ever.
"""

import inspect
from typing import Any, Callable, Coroutine, Dict, Type

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError, create_model
from starlette.responses import Response

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Straight(APIRoute):
    """The route of an endpoint that returns a Response. Parts of the path are texts, what comes in
    the query is no list. An endpoint that wants a header, a cookie, a body, a dependency, or
    something of the query for sure, is called by the framework."""

    def get_route_handler(self) -> Handler:
        wants = self.dependant
        more = wants.header_params or wants.cookie_params or wants.body_params or wants.dependencies
        if more or any(param.field_info.is_required() for param in wants.query_params):
            return super().get_route_handler()
        query = _query_of(self.endpoint, [param.name for param in wants.query_params])
        nothing = query().__dict__

        async def handle(request: Request) -> Any:
            asked = _query_values(query, request) if request.scope["query_string"] else nothing
            return await self.endpoint(request, **request.path_params, **asked)

        return handle


def _query_of(endpoint: Callable[..., Any], names: "list[str]") -> Type[BaseModel]:
    parameters = inspect.signature(endpoint).parameters
    fields: Dict[str, Any] = {n: (parameters[n].annotation, parameters[n].default) for n in names}
    return create_model("Query", **fields)


def _query_values(query: Type[BaseModel], request: Request) -> Dict[str, Any]:
    """What the query says, and the defaults for the rest. Of one that is given twice the last."""
    try:
        return query.model_validate(dict(request.query_params)).__dict__
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
