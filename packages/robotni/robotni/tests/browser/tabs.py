"""A real Chromium for the tests of the page.

These fail every test: an error in the console, a report of the Content-Security-Policy, a dialog
that a script opened, a request to another host, a refusal that the test did not expect.
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
    """The browser for the tests of one module."""
    if sys.version_info < (3, 9):
        pytest.skip("the page is the same on every Python; playwright needs a newer one")
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
    """A tab that shows the page of a server, and everything that went wrong in it."""

    def __init__(self, browser: Browser, server: Server, **options: Any) -> None:
        self.server = server
        self.errors: List[str] = []
        self.refusals: Set[int] = set()  # statuses the test expects
        self.loses_connection = False
        self.requests: List[str] = []
        self.aborted: List[str] = []
        self.answers: List[Tuple[str, int]] = []  # path with query, status
        self.context = browser.new_context(**options)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.page.clock.install()
        self.page.add_init_script(REPORT)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("dialog", self._on_dialog)
        self.page.on("request", self._on_request)
        self.page.on("requestfailed", self._on_failure)
        self.page.on("response", self._on_response)

    def open(self, path: str = "/webdemo") -> "Visit":
        self.page.goto(f"{self.server.url}{path}")
        return self

    def open_job(self, job_id: str) -> "Visit":
        return self.open(f"/webdemo#/jobs/{job_id}")

    def poll(self) -> None:
        """Lets the time until the next poll pass."""
        self.page.clock.fast_forward(5_000)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def show_started(self) -> str:
        """Opens the job that was just started, and returns its id."""
        self.page.get_by_role("link", name="Show it").click()
        return self.shown_job()

    def shown_job(self) -> str:
        """The id of the job that is shown, once it is."""
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

    def _on_console(self, message: Any) -> None:
        is_status = message.text.startswith("Failed to load resource")
        if message.type in ("error", "warning") and not is_status:
            self.errors.append(message.text)

    def _on_dialog(self, dialog: Any) -> None:
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith((f"{self.server.url}/", "data:", "blob:")):
            self.errors.append(f"another host: {request.url}")

    def _on_failure(self, request: Request) -> None:
        if self._is_aborted_by_the_page(request):
            self.aborted.append(request.url)
        elif not self.loses_connection:
            self.errors.append(f"{request.url}: {request.failure}")

    def _is_aborted_by_the_page(self, request: Request) -> bool:
        """Whether the page itself aborted a long request whose answer it needs no longer."""
        is_long = any(f"/api/worker/{what}?" in request.url for what in ("jobs", "stats"))
        return is_long and request.failure == "net::ERR_ABORTED"

    def _on_response(self, response: Response) -> None:
        self.answers.append((response.url.replace(self.server.url, ""), response.status))
        if response.status >= 400 and response.status not in self.refusals:
            self.errors.append(f"{response.url}: {response.status}")


def run_curl(server: Server, command: str) -> Any:
    """The answer to the request of a curl command."""
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
            name, _, header = value.partition(": ")
            headers[name] = header
    assert url.startswith(server.url)
    return server.http.request(
        method or ("GET" if body is None else "POST"), url, headers=headers, content=body
    )
