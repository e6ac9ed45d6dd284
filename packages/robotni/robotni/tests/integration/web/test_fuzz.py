"""Both APIs, fuzzed from their own OpenAPI document: no 500, and every answer as described."""

from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from robotni.tests.calls import UNKNOWN_ID, serving
from robotni.tests.processes import Server

schemathesis = pytest.importorskip(
    "schemathesis", reason="the fuzzer wants a newer Python; the API is the same on each"
)
from schemathesis import checks  # noqa: E402
from schemathesis.specs.openapi import checks as openapi  # noqa: E402

EXAMPLES = 60  # for each operation; about a hundredth of a second each
ids: List[str] = [UNKNOWN_ID]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With jobs in several states, whose ids the fuzzer uses."""
    for server in serving(tmp_path_factory.mktemp("fuzz")):
        ended = [server.submit(text) for text in ("print(1)", "raise SystemExit(1)")]
        waiting = server.client.submit({"type": "fakejob", "delay": 3600})["jobId"]
        for job_id in ended:
            server.wait_for(job_id)
        ids.extend([*ended, waiting])
        yield server


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    found = schemathesis.openapi.from_url(f"{server.url}/openapi.json")

    @found.hook
    def map_path_parameters(context: Any, path_parameters: Dict[str, Any]) -> Dict[str, Any]:
        """Most made-up ids lead to a 404; every other one becomes that of a real job."""
        known = path_parameters or {}
        return {
            name: ids[len(str(value)) % len(ids)] if len(str(value)) % 2 else value
            for name, value in known.items()
        }

    return found


CHECKS = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
]


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_every_answer_matches_its_description(document: Any, mode: str) -> None:
    """`POSITIVE`: what the document allows; `NEGATIVE`: what it forbids in some way."""
    names = []
    for found in document.get_all_operations():
        operation = found.ok()
        names.append(operation.label)
        can_be_wrong = len(operation.body) + len(operation.query) + len(operation.headers) > 0
        if mode == "POSITIVE" or can_be_wrong:  # no text is wrong for a path
            fuzz(operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    assert len(names) == sum(len(methods) for methods in document.raw_schema["paths"].values())


def fuzz(cases: Any) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def one(case: Any) -> None:
        case.validate_response(case.call(timeout=20), checks=CHECKS)

    one()


def test_the_server_is_ready_after_the_fuzzing(server: Server) -> None:
    assert server.http.get("/readyz").status_code == 200
    assert "Traceback" not in server.log()
    assert Path(server.data).exists()
