"""Runs what slow, independent tests of a module wait for in parallel, two at a time."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator

import pytest

MAX_PARALLEL = 2


def ahead(
    request: pytest.FixtureRequest, name: str, run: Callable[[str], Any]
) -> "Iterator[Dict[str, Future[Any]]]":
    """For fixtures of module scope: calls `run` with each value that the selected tests have for
    the parameter `name`; the futures by value."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    items = zip(request.session.items, calls)
    params = [
        call.params[name]
        for item, call in items
        if call is not None and name in call.params and item.path == request.path
    ]
    with ThreadPoolExecutor(MAX_PARALLEL) as pool:
        yield {param: pool.submit(run, param) for param in dict.fromkeys(params)}
