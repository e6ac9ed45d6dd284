"""Endpoints called straight get what the framework would have given them."""

import asyncio
from typing import Any, Literal, Optional

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Header, Query, Request
from starlette.responses import JSONResponse, Response

from robotni.web import problems
from robotni.web.fast_route import Straight

QUERIES = [
    "",
    "text=a&number=3&window=24h",
    "number=3&number=4",
    "text=",
    "text=%C3%A4%20b+c&text=d",
    "number=0",
    "number=x&text=toolong",
    "number=",
    "number=2.0",
    "window=1d",
    "other=1",
    "text",
    "text=%00%FF",
    "&&=&",
]


def answer(straight: bool, path: str, **options: Any) -> httpx.Response:
    router = APIRouter(**({"route_class": Straight} if straight else {}))

    @router.get("/query/{name}")
    async def query(
        request: Request,
        name: str,
        text: Optional[str] = Query(None, max_length=5),
        number: int = Query(50, ge=1, le=200),
        window: Literal["1h", "24h"] = Query("1h"),
    ) -> Response:
        return JSONResponse([name, text, number, window])

    @router.get("/header")
    async def header(x_name: str = Header()) -> Any:
        return JSONResponse([x_name])

    @router.get("/required")
    async def required(request: Request, number: int) -> Response:
        return JSONResponse([number])

    app = FastAPI()
    problems.install(app)
    app.router.routes += router.routes

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, **options)

    return asyncio.run(get())


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_read_and_refused_as_by_the_framework(query: str) -> None:
    answers = [answer(straight, f"/query/a%20b?{query}") for straight in (True, False)]
    ours, theirs = [(a.status_code, a.json()) for a in answers]
    assert ours == theirs


def test_what_wants_more_is_called_by_the_framework() -> None:
    assert answer(True, "/header", headers={"X-Name": "a"}).json() == ["a"]
    assert answer(True, "/header").status_code == 422
    assert answer(True, "/required?number=3").json() == [3]
    assert answer(True, "/required").status_code == 422
