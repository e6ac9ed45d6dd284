"""Long waits side by side: what independent tests of a module run is begun ahead, two at a time."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Dict, Iterator

import pytest

AT_ONCE = 2


def ahead(
    request: pytest.FixtureRequest, name: str, run: Callable[[str], Any]
) -> "Iterator[Dict[str, Future[Any]]]":
    """For fixtures of a whole module: `run` of each parameter `name` of the chosen tests."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    here = zip(request.session.items, calls)
    params = [
        call.params[name]
        for item, call in here
        if call is not None and name in call.params and item.path == request.path
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {param: pool.submit(run, param) for param in dict.fromkeys(params)}
