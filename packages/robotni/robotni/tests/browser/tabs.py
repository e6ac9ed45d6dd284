"""A real Chromium for the tests of the page.

Whatever a test does: an error in the console, a report of the Content-Security-Policy, a dialog of
a script, a request to another host, a refusal it did not expect fail it.
"""

import os
import shlex
import shutil
import sys
from typing import Any, Iterator, List, Set, Tuple

import pytest
from playwright.sync_api import Browser, Locator, Request, Response, expect, sync_playwright

from robotni.tests.processes import Server

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


def launched() -> Iterator[Browser]:
    """The browser of a module's tests."""
    if sys.version_info < (3, 9):
        pytest.skip("a browser sees the same page from every Python; newer ones drive it")
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


class Visit:
    """A tab at a server's page, and what went wrong in it."""

    def __init__(self, browser: Browser, server: Server, **options: Any) -> None:
        self.server = server
        self.faults: List[str] = []
        self.refusals: Set[int] = set()  # statuses the test expects
        self.loses_connection = False
        self.requests: List[str] = []
        self.given_up: List[str] = []
        self.answers: List[Tuple[str, int]] = []  # path with query, status
        self.context = browser.new_context(**options)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
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

    def open_job(self, job_id: str) -> "Visit":
        return self.open(f"/webdemo#/jobs/{job_id}")

    def poll(self) -> None:
        """As if the time until the next poll had passed."""
        self.page.clock.fast_forward(5_000)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def show_started(self) -> str:
        """Goes to the job that was just started, and returns its id."""
        self.page.get_by_role("link", name="Show it").click()
        return self.shown_job()

    def shown_job(self) -> str:
        """The id of the job that is shown, or soon will be."""
        expect(self.state).to_be_visible()
        return self.page.url.rpartition("/")[2]

    def copied(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    @property
    def state(self) -> Locator:
        return self.page.locator("#job-state")

    @property
    def output(self) -> Locator:
        return self.page.locator("#output")

    @property
    def rows(self) -> Locator:
        return self.page.locator("#jobs tr")

    @property
    def notice(self) -> Locator:
        return self.page.locator("#notice")

    def _heard(self, message: Any) -> None:
        is_status = message.text.startswith("Failed to load resource")  # see _answered, _failed
        if message.type in ("error", "warning") and not is_status:
            self.faults.append(message.text)

    def _asked(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith((f"{self.server.url}/", "data:", "blob:")):
            self.faults.append(f"another host: {request.url}")

    def _failed(self, request: Request) -> None:
        if self._gives_up(request):
            self.given_up.append(request.url)
        elif not self.loses_connection:
            self.faults.append(f"{request.url}: {request.failure}")

    def _gives_up(self, request: Request) -> bool:
        """Whether the page itself broke off what takes long and is wanted no more."""
        is_long = any(f"/api/worker/{what}?" in request.url for what in ("jobs", "stats"))
        return is_long and request.failure == "net::ERR_ABORTED"

    def _answered(self, response: Response) -> None:
        self.answers.append((response.url.replace(self.server.url, ""), response.status))
        if response.status >= 400 and response.status not in self.refusals:
            self.faults.append(f"{response.url}: {response.status}")


def performed(server: Server, command: str) -> Any:
    """The answer to a curl command, read as a shell reads it."""
    words = shlex.split(command)
    assert words.pop(0) == "curl"
    url, method, headers, body = words.pop(), None, {}, None  # type: str, Any, Dict[str, str], Any
    while words:
        option, value = words.pop(0), words.pop(0)
        if option == "-X":
            method = value
        elif option == "-d":
            body = value
        else:
            assert option == "-H", option
            name, _, said = value.partition(": ")
            headers[name] = said
    assert url.startswith(server.url)
    return server.http.request(
        method or ("GET" if body is None else "POST"), url, headers=headers, content=body
    )
