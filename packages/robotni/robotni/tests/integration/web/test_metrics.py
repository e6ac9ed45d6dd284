"""`/metrics`, read as Prometheus reads it."""

import re
from typing import Callable, Dict, Iterator, List, Set, Tuple

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from robotni.tests.calls import problem, serving
from robotni.tests.conftest import House
from robotni.tests.paths import ROOT
from robotni.tests.processes import Server
from robotni.web.metrics import BUCKETS, RECENT, RequestTimes, render

TOKEN = "correct-horse"
Samples = Dict[Tuple[str, Tuple[Tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from serving(tmp_path_factory.mktemp("metrics"), token=TOKEN, workers=2)


def scrape(server: Server) -> Samples:
    answer = server.http.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def labelled(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_metrics_need_the_token(server: Server) -> None:
    problem(server.http.get("/metrics"), 401, "token_required")


def test_the_figures_are_those_of_the_database(server: Server) -> None:
    for y in ("2", "x"):
        server.wait_for(server.submit(f"import sys; print(1); {y} + 1"))
    server.client.submit({"type": "fakejob", "delay": 3600})
    samples = scrape(server)
    states = {
        dict(labels)["state"]: value
        for (name, labels), value in samples.items()
        if name == "robotni_jobs"
    }
    assert states == {
        "scheduled": 1,
        "pending": 0,
        "running": 0,
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
    }
    assert labelled(samples, "robotni_jobs_ended_total", state="completed", code="") == 1
    assert labelled(samples, "robotni_jobs_ended_total", state="failed", code="exit_nonzero") == 1
    assert labelled(samples, "robotni_workers_max") == 2
    assert labelled(samples, "robotni_workers_busy") == 0
    assert labelled(samples, "robotni_worker_up") == 1
    assert labelled(samples, "robotni_queue_depth") == 0
    assert labelled(samples, "robotni_queue_oldest_pending_seconds") == 0
    assert labelled(samples, "robotni_completed_within_timeout_ratio") == 1
    assert labelled(samples, "process_open_fds") > 3


def test_requests_to_this_process_are_timed_by_method_and_class_of_status(server: Server) -> None:
    name = "robotni_http_request_duration_seconds_count"
    before = scrape(server)
    problem(server.http.get("/nothing-here"), 401)
    server.http.request("BREW", "/livez")
    after = scrape(server)

    def rise(**labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after.get(key, 0) - before.get(key, 0)

    assert rise(method="GET", status="2xx") == 1  # the first scrape itself
    assert rise(method="GET", status="4xx") == 1
    assert rise(method="other", status="4xx") == 1


OBSERVED = (
    ("GET", 200, 0.0),
    ("GET", 204, 0.01),
    ("POST", 503, 0.0101),
    ("GET", 200, 99.0),
    ("DELETE", 404, 10.0),
)


def test_request_times_have_the_form_of_a_histogram_of_prometheus(house: House) -> None:
    registry, times = CollectorRegistry(), RequestTimes()
    name = "robotni_http_request_duration_seconds"
    histogram = Histogram(name, "", ("method", "status"), buckets=BUCKETS, registry=registry)
    for method, status, seconds in OBSERVED:
        times.observe(method, status, seconds)
        histogram.labels(method, f"{status // 100}xx").observe(seconds)
    text = render(house.engine.status(), house.engine.ended_totals(), False, times)
    assert times_in(text) == times_in(generate_latest(registry))


def test_the_percentile_is_of_the_last_1000_requests() -> None:
    times = RequestTimes()
    assert times.p95_ms() is None
    times.observe("GET", 200, 0.5)
    assert times.p95_ms() == 500
    for number in range(RECENT):
        times.observe("GET", 200, number / RECENT)
    assert times.p95_ms() == 949


def times_in(text: bytes) -> List[str]:
    lines = text.decode().splitlines()
    return sorted(
        line for line in lines if line.startswith("robotni_http_request") and "_created" not in line
    )


def test_no_label_holds_what_a_user_chooses(server: Server) -> None:
    server.wait_for(server.submit("print(1)", project="a-project"))
    names = {label for _, labels in scrape(server) for label, _ in labels}
    assert names == {"state", "code", "version", "method", "status", "le"}


def test_the_readme_lists_every_metric_with_its_labels(server: Server) -> None:
    readme = (ROOT / "docs" / "howto" / "metrics.md").read_text(encoding="utf-8")
    documented: Dict[str, Set[str]] = {}
    for names, labels in re.findall(r"(?m)^\| (`robotni_[^|]*) \|([^|]*)\|", readme):
        for name in re.findall(r"`(\w+)`", names):
            documented[name] = set(re.findall(r"`(\w+)`", labels))
    server.wait_for(server.submit("print(1)"))
    found: Dict[str, Set[str]] = {}
    for name, labels in scrape(server):
        if name.startswith("robotni_"):
            family = re.sub("_(bucket|sum|count)$", "", name)
            found.setdefault(family, set()).update(label for label, _ in labels if label != "le")
    assert found == documented


def test_two_web_processes_of_one_data_directory_say_the_same(
    make_server: Callable[..., Server],
) -> None:
    first = make_server(autostart=0, token=TOKEN)
    second = make_server(autostart=0, token=TOKEN)
    first.client.submit({"type": "add", "params": {"x": 1, "y": 2}})
    for server in (first, second):
        assert labelled(scrape(server), "robotni_jobs", state="pending") == 1
        assert labelled(scrape(server), "robotni_queue_oldest_pending_seconds") > 0
        assert labelled(scrape(server), "robotni_worker_up") == 0
