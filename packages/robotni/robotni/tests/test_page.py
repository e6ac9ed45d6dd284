"""The page and /docs in a real Chromium, against a real server and worker.

Whatever a test does: an error in the console, a report of the Content-Security-Policy, a dialog of
a script, a request to another host, a refusal it did not expect fail it.
"""

import os
import shutil
from typing import Any, Callable, Iterator, List, Set

import pytest
from playwright.sync_api import Browser, Locator, Request, Response, Route, expect, sync_playwright

from robotni.tests.processes import Server, eventually, make_venv

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORT = """addEventListener("securitypolicyviolation", (report) =>
    console.error(`${report.violatedDirective} forbids ${report.blockedURI || "inline"}`))"""
HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
# Says its arguments and that it began, waits for the file `go`, hands over a result.
SCRIPT = """
import os, pathlib, sys, time
print("begin", sys.argv[1:])
while not pathlib.Path("go").exists():
    time.sleep(0.01)
pathlib.Path(os.environ["ROBOTNI_RESULT"]).write_text(
    '{"result": [1, {"a, }": 12345678901234567890123}], "none": {}}')
print("end: \\u00e4")
"""
RESULT = """{
  "result": [
    1,
    {
      "a, }": 12345678901234567890123
    }
  ],
  "none": {}
}"""
HOSTILE = r"""
import sys
print("<script>alert(1)</script></pre><img src=x onerror=alert(1)>")
print("\x1b[31mred \x1b]8;;http://evil.example\x07 \u202egnp.exe\u202c\r", flush=True)
sys.stdout.buffer.write(b"bad \xff\n")
sys.exit("</script>")
"""


class Visit:
    """A tab at a server's page, and what went wrong in it."""

    def __init__(self, browser: Browser, server: Server, **options: Any) -> None:
        self.server = server
        self.faults: List[str] = []
        self.refusals: Set[int] = set()  # statuses the test expects
        self.loses_connection = False
        self.requests: List[str] = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.clock.install()
        self.page.add_init_script(REPORT)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("dialog", self._asked)
        self.page.on("request", self._requested)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._answered)

    def open(self, path: str = "/webdemo") -> "Visit":
        self.page.goto(f"{self.server.url}{path}")
        return self

    def poll(self) -> None:
        """As if the time until the next poll had passed."""
        self.page.clock.fast_forward(5_000)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def run_script(self, script: str) -> str:
        """Submits by the form, goes to the job, and returns its id."""
        self.page.get_by_label("Script", exact=True).fill(script)
        self.press("Run script")
        return self.show_started()

    def show_started(self) -> str:
        self.page.get_by_role("link", name="Show it").click()
        return self.page.url.rpartition("/")[2]

    @property
    def state(self) -> Locator:
        return self.page.locator("#job-state")

    @property
    def rows(self) -> Locator:
        return self.page.locator("#jobs tr")

    def _heard(self, message: Any) -> None:
        is_status = message.text.startswith("Failed to load resource")  # see _answered, _failed
        if message.type in ("error", "warning") and not is_status:
            self.faults.append(message.text)

    def _asked(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith((f"{self.server.url}/", "data:")):
            self.faults.append(f"another host: {request.url}")

    def _failed(self, request: Request) -> None:
        if not self.loses_connection:
            self.faults.append(f"{request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.refusals:
            self.faults.append(f"{response.url}: {response.status}")


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        missing = "there is no chromium here; on Debian and Ubuntu: apt install chromium"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGS)
        expect.set_options(timeout=15_000)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that are content with whatever jobs it has."""
    project = tmp_path_factory.mktemp("site")
    make_venv(project / ".venv")
    (project / "hello.py").write_text('print("hello")\n')
    server = Server(project, kill_grace=2)
    yield server.start()
    server.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    visits = []

    def make(server: Server, **options: Any) -> Visit:
        visits.append(Visit(browser, server, **options))
        return visits[-1]

    yield make
    for one in visits:
        one.loses_connection = True  # by closing it
        one.context.close()
        assert one.faults == []


def test_a_script_is_submitted_and_its_output_grows(
    site: Server, visit: Callable[..., Visit]
) -> None:
    (site.project / "script.py").write_text(SCRIPT)
    tab = visit(site).open()
    tab.page.get_by_label("Arguments").fill("--n\n3 4\n")
    job_id = tab.run_script("script.py")
    output = tab.page.locator("#output")
    expect(output).to_have_text("begin ['--n', '3 4']\n")
    expect(tab.state).to_have_text("running")
    (site.project / "go").touch()
    site.wait_for(job_id)
    tab.poll()
    expect(tab.state).to_contain_text("completed after")
    expect(output).to_have_text("begin ['--n', '3 4']\nend: ä\n")
    expect(tab.page.locator("#result")).to_have_text(RESULT)
    before = len(tab.requests)
    tab.poll()
    tab.page.get_by_role("link", name="All jobs").click()
    expect(tab.rows.first).to_contain_text("script.py")
    assert not [url for url in tab.requests[before:] if "/output" in url]


def test_what_the_server_refuses_is_said_at_the_field(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(site).open()
    before = site.client.status()["jobs"]
    tab.refusals = {422}
    script = tab.page.get_by_label("Script", exact=True)
    timeout = tab.page.get_by_label("Timeout, seconds")
    timeout.fill("soon")
    script.fill("../hello.py")
    tab.press("Run script")
    for field, words in ((script, "the path holds '..'"), (timeout, "number")):
        expect(field).to_have_attribute("aria-invalid", "true")
        error = tab.page.locator(f"#{field.get_attribute('aria-describedby')}")
        expect(error).to_contain_text(words)
    expect(script).to_be_focused()
    script.fill("gone.py")
    timeout.fill("")
    tab.press("Run script")
    expect(tab.page.locator("#script-form .error")).to_have_count(1)
    expect(tab.page.locator("#script-form .error")).to_contain_text("gone.py does not exist")
    tab.page.get_by_label("x", exact=True).fill("1.5")
    tab.press("Add")
    expect(tab.page.locator("#add-form-x-error")).to_contain_text("integer")
    assert site.client.status()["jobs"] == before
    script.fill("hello.py")
    tab.press("Run script")
    expect(tab.page.locator("#notice")).to_contain_text("hello.py is in the queue")
    expect(script).not_to_have_attribute("aria-invalid", "true")


def test_integers_of_any_size_are_sent_and_shown_digit_for_digit(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(site).open()
    x, y = 9007199254740993, -(10**60) + 7
    tab.page.get_by_label("x", exact=True).fill(str(x))
    tab.page.get_by_label("y", exact=True).fill(str(y))
    tab.press("Add")
    site.wait_for(tab.show_started())
    tab.poll()
    expect(tab.page.locator("#result")).to_have_text(str(x + y))
    expect(tab.page.locator("#facts")).to_contain_text(f'"x": {x},')


def test_a_fake_job_shows_its_progress_and_is_cancelled(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(site).open()
    tab.page.get_by_label("Seconds", exact=True).fill("60")
    tab.press("Start fake job")
    expect(tab.rows.first).to_contain_text("running")
    eventually(lambda: site.client.list()["jobs"][0]["progress"])
    tab.poll()
    expect(tab.rows.first).to_contain_text("step 1 of 20")
    expect(tab.rows.first.get_by_role("progressbar")).to_be_visible()
    job_id = tab.show_started()
    tab.press("Cancel")
    expect(tab.page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    site.wait_for(job_id, "cancelled")
    tab.poll()
    expect(tab.state).to_contain_text("cancelled")
    expect(tab.page.get_by_role("button", name="Retry")).to_be_visible()


def test_a_failed_job_says_why_and_is_retried(site: Server, visit: Callable[..., Visit]) -> None:
    (site.project / "fails.py").write_text("import nothing_of_that_name")
    tab = visit(site).open()
    first = tab.run_script("fails.py")
    site.wait_for(first)
    tab.poll()
    expect(tab.page.locator("#job-error")).to_contain_text("ended with exit code 1")
    expect(tab.page.locator("#output")).to_contain_text("No module named")
    tab.press("Retry")
    expect(tab.page.locator("#facts")).to_contain_text(f"Retry of{first}")
    assert site.client.list()["jobs"][0]["retryOf"] == first


def test_flush_asks_first_and_says_how_many(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server(workers=1)
    running = server.client.submit({"type": "fakejob", "params": {"seconds": 60}})["jobId"]
    server.wait_for(running, "running")
    for delay in (0, 0, 3600):
        server.client.submit({"type": "fakejob", "delay": delay})
    tab = visit(server).open()
    tab.press("Flush queue…")
    question = tab.page.get_by_role("dialog")
    expect(question).to_contain_text("all 3 waiting jobs (2 pending, 1 scheduled)")
    tab.press("Keep them")
    expect(question).to_be_hidden()
    assert server.client.status()["queue"]["pending"] == 2
    tab.press("Flush queue…")
    tab.press("Cancel them")
    expect(tab.page.locator("#notice")).to_contain_text("Cancelled 2 pending and 1 scheduled")
    expect(tab.rows.filter(has_text="cancelled")).to_have_count(3)
    expect(tab.rows.filter(has_text="running")).to_have_count(1)
    tab.press("Flush queue…")
    expect(tab.page.locator("#notice")).to_contain_text("Nothing is waiting")


def test_a_hidden_page_does_not_poll_and_looks_at_once_when_shown(
    server: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(server).open()
    expect(tab.page.locator("#no-jobs")).to_be_visible()
    tab.page.evaluate(HIDE, True)
    before = len(tab.requests)
    job_id = server.submit("print('hello')")
    server.wait_for(job_id)
    tab.page.clock.fast_forward(600_000)
    assert len(tab.requests) == before
    tab.page.evaluate(HIDE, False)
    expect(tab.rows).to_have_count(1)
    server.submit("print('hello')")
    tab.poll()
    expect(tab.rows).to_have_count(2)


def test_a_lost_server_is_said_and_a_restart_is_survived(
    server: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(server).open()
    expect(tab.page.locator("#workers")).to_contain_text("of 4 workers busy")
    tab.loses_connection = True
    server.stop()
    tab.poll()
    message = tab.page.get_by_text("server not reachable, trying again")
    expect(message).to_be_visible()
    tab.press("Start fake job")
    expect(tab.page.locator("#notice")).to_contain_text("not reachable; try again")
    server.start()
    server.submit("print('hello')")
    tab.poll()
    expect(message).to_be_hidden()
    expect(tab.rows).to_have_count(1)


def test_hostile_output_and_file_names_are_text(site: Server, visit: Callable[..., Visit]) -> None:
    name = "<img src=x onerror=alert(1)>\u202eyp.txt.py"
    shown = "<img src=x onerror=alert(1)>⟨U+202E⟩yp.txt.py"
    (site.project / name).write_text(HOSTILE)
    tab = visit(site).open()
    job_id = tab.run_script(name)
    site.wait_for(job_id)
    tab.poll()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text(shown)
    expect(tab.page.locator("#job-error")).to_contain_text(shown)
    output = tab.page.locator("#output")
    expect(output).to_contain_text("<script>alert(1)</script></pre><img src=x onerror=alert(1)>")
    expect(output).to_contain_text("⟨ESC⟩[31mred ⟨ESC⟩]8;;http://evil.example⟨U+0007⟩")
    expect(output).to_contain_text("⟨U+202E⟩gnp.exe⟨U+202C⟩")
    expect(output).to_contain_text("bad \N{REPLACEMENT CHARACTER}\n")
    assert output.evaluate("(pre) => pre.children.length") == 0
    assert not set("\x1b\x07\u202e\u202c") & set(tab.page.locator("body").inner_text())
    tab.page.get_by_role("link", name="All jobs").click()
    expect(tab.rows.first.get_by_role("link")).to_have_text(shown)
    assert tab.page.locator("main img, main script").count() == 0


def test_the_token_is_asked_for_once(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server(token="correct-horse")
    tab = visit(server)
    tab.refusals = {401}
    tab.open()
    question = tab.page.get_by_role("dialog")
    expect(question).to_be_visible()
    tab.page.get_by_label("Token", exact=True).fill("wrong")
    tab.press("Use token")
    expect(question).to_contain_text("not accepted")
    tab.page.get_by_label("Token", exact=True).fill("correct-horse")
    tab.press("Use token")
    expect(tab.page.locator("#no-jobs")).to_be_visible()
    expect(question).to_be_hidden()
    tab.refusals = set()
    tab.page.reload()
    tab.run_script("hello.py")
    expect(tab.page.locator("#output")).to_have_text("hello\n")
    expect(question).to_be_hidden()
    assert tab.page.evaluate("localStorage.length") == 0
    assert not [url for url in tab.requests if "correct-horse" in url]


def test_more_jobs_are_loaded_on_demand(server: Server, visit: Callable[..., Visit]) -> None:
    for _ in range(53):
        server.client.submit({"type": "fakejob", "delay": 3600})
    tab = visit(server).open()
    expect(tab.rows).to_have_count(50)
    tab.press("Load more")
    expect(tab.rows).to_have_count(53)
    expect(tab.page.get_by_role("button", name="Load more")).to_be_hidden()
    newest, oldest = tab.rows.first, tab.rows.last
    expect(newest).to_contain_text("scheduled")
    oldest.get_by_role("link").focus()
    server.client.submit({"type": "fakejob", "delay": 3600})
    server.client.cancel(tab.page.evaluate("document.activeElement.hash").rpartition("/")[2])
    tab.poll()
    expect(tab.rows).to_have_count(54)
    expect(oldest).to_contain_text("cancelled")
    expect(oldest.get_by_role("link")).to_be_focused()


def test_the_page_fits_a_narrow_window(site: Server, visit: Callable[..., Visit]) -> None:
    job_id = site.submit("print('x' * 500)", project="p" * 64, args=["y" * 300])
    site.wait_for(job_id)
    tab = visit(site, viewport={"width": 360, "height": 700}).open()
    expect(tab.rows.first).to_contain_text("p" * 64)
    tab.page.get_by_text("New job").click()
    expect(tab.page.get_by_role("button", name="Run script")).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
    tab.page.get_by_role("link", name="script-").first.click()
    expect(tab.state).to_contain_text("completed")
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_page_works_under_a_path_prefix(site: Server, visit: Callable[..., Visit]) -> None:
    def strip(route: Route) -> None:
        route.continue_(url=route.request.url.replace("/pre/fix/", "/", 1))

    tab = visit(site)
    tab.context.route("**/pre/fix/**", strip)
    tab.open("/pre/fix/webdemo")
    site.wait_for(tab.run_script("hello.py"))
    tab.poll()
    expect(tab.page.locator("#output")).to_have_text("hello\n")
    tab.page.get_by_role("link", name="API").click()
    expect(tab.page.get_by_text("/api/worker/status")).to_be_visible()
    assert all("/pre/fix/" in url for url in tab.requests if not url.startswith("data:"))


def test_addresses_with_a_last_slash_lead_to_the_page(
    site: Server, visit: Callable[..., Visit]
) -> None:
    for path, page in (("/", "/webdemo"), ("/webdemo/", "/webdemo"), ("/docs/", "/docs")):
        tab = visit(site).open(path)
        expect(tab.page).to_have_url(f"{site.url}{page}")
        expect(tab.page.locator("#workers, .swagger-ui .info")).not_to_be_empty()


def test_the_docs_show_every_operation_and_load_nothing_from_elsewhere(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(site).open("/docs")
    operations = tab.page.locator(".opblock")
    spec = site.http.get("/openapi.json").json()
    expect(operations).to_have_count(sum(len(path) for path in spec["paths"].values()))
    operations.first.locator("button").first.click()
    expect(operations.first).to_contain_text("422")
    status = operations.filter(has_text="/api/worker/status")
    status.locator("button").first.click()
    status.get_by_role("button", name="Try it out").click()
    status.get_by_role("button", name="Execute").click()
    expect(status.locator(".live-responses-table")).to_contain_text('"pollInterval": 5')
    expect(tab.page.locator(".errors-wrapper")).to_have_count(0)
