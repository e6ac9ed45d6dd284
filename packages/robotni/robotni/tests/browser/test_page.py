"""The page as a whole, and /docs, in a real Chromium: polling, token, addresses, themes, access."""

from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from playwright.sync_api import Route, expect

from robotni.tests.browser.tabs import HIDE, Visit
from robotni.tests.processes import Server

AXE = Path(__file__).with_name("axe") / "axe.min.js"


def test_a_poll_is_answered_with_304_for_what_has_not_changed(
    server: Server, visit: Callable[..., Visit]
) -> None:
    server.wait_for(server.submit("print('hello')"))
    tab = visit(server).open()
    expect(tab.rows).to_have_count(1)
    tab.answers.clear()
    with tab.page.expect_response("**/api/worker/jobs?*") as jobs:
        tab.poll()
    assert jobs.value.status == 304
    expect(tab.rows).to_have_count(1)
    polled = {path.partition("?")[0]: status for path, status in tab.answers}
    assert polled["/api/worker/stats"] == 304
    polled.pop("/webdemo/icon.svg", None)  # loaded when the browser likes
    assert set(polled) == {f"/api/worker/{name}" for name in ("jobs", "stats", "status")}


def test_a_hidden_page_does_not_poll_and_polls_at_once_when_it_is_shown(
    server: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(server).open()
    expect(tab.page.locator("#no-jobs")).to_be_visible()
    tab.page.evaluate(HIDE, True)
    before = len(tab.requests)
    tab.page.clock.fast_forward(600_000)
    assert len(tab.requests) == before
    tab.press("Add 5 + 3")  # by a script, say: one poll, and no more
    expect(tab.rows).to_have_count(1)
    before = len(tab.requests)
    server.wait_for(server.submit("print('hello')"))
    tab.page.clock.fast_forward(600_000)
    assert len(tab.requests) == before
    tab.page.evaluate(HIDE, False)
    expect(tab.rows).to_have_count(2)
    server.submit("print('hello')")
    tab.poll()
    expect(tab.rows).to_have_count(3)


def test_the_page_says_that_the_server_is_away_and_goes_on_after_a_restart(
    server: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(server).open()
    expect(tab.page.locator("#overview")).to_contain_text("of 4")
    tab.loses_connection = True
    server.stop()
    tab.poll()
    message = tab.page.get_by_text("server not reachable, trying again")
    expect(message).to_be_visible()
    tab.press("Fake job")
    expect(tab.notice).to_contain_text("not reachable; try again")
    server.start()
    server.submit("print('hello')")
    tab.poll()
    expect(message).to_be_hidden()
    expect(tab.rows).to_have_count(1)


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
    job_id = server.submit("print('hello')")
    server.wait_for(job_id)
    tab.open_job(job_id)
    expect(tab.output).to_have_text("hello\n")
    tab.press("Copy show")
    expect(tab.notice).to_contain_text("copied")
    assert '"Authorization: Bearer $ROBOTNI_TOKEN"' in tab.copied()
    with tab.page.expect_download() as download:
        tab.press("Download")
    assert Path(download.value.path()).read_bytes() == b"hello\n"
    expect(question).to_be_hidden()
    assert tab.page.evaluate("localStorage.length") == 0
    assert not [url for url in tab.requests if "correct-horse" in url]


def test_the_token_can_be_entered_after_its_dialog_was_closed(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server(token="correct-horse")
    tab = visit(server)
    tab.refusals = {401}
    tab.open()
    expect(tab.page.get_by_role("dialog")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#connection")).to_contain_text("A token is needed", ignore_case=True)
    tab.press("Enter it")
    tab.page.get_by_label("Token", exact=True).fill("correct-horse")
    tab.press("Use token")
    expect(tab.page.locator("#no-jobs")).to_be_visible()
    expect(tab.page.locator("#connection")).to_be_empty()


def test_the_page_works_under_a_path_prefix(site: Server, visit: Callable[..., Visit]) -> None:
    def strip(route: Route) -> None:
        route.continue_(url=route.request.url.replace("/pre/fix/", "/", 1))

    tab = visit(site)
    tab.context.route("**/pre/fix/**", strip)
    tab.open("/pre/fix/webdemo")
    tab.press("Add 5 + 3")
    site.wait_for(tab.show_started())
    tab.poll()
    expect(tab.output).to_have_text("8\n")
    tab.page.get_by_role("link", name="New job").click()
    expect(tab.page.get_by_label("Script", exact=True)).to_be_visible()
    tab.press("Copy as curl")
    assert "/pre/fix/api/worker/jobs" in tab.copied()
    tab.page.get_by_role("link", name="API").click()
    expect(tab.page.get_by_text("/api/worker/status")).to_be_visible()
    assert all("/pre/fix/" in url for url in tab.requests if not url.startswith("data:"))


def test_addresses_with_a_trailing_slash_lead_to_the_page(
    site: Server, visit: Callable[..., Visit]
) -> None:
    for path, page in (("/", "/webdemo"), ("/webdemo/", "/webdemo"), ("/docs/", "/docs")):
        tab = visit(site).open(path)
        expect(tab.page).to_have_url(f"{site.url}{page}")
        expect(tab.page.locator("#overview, .swagger-ui .info")).not_to_be_empty()


def test_the_docs_show_every_operation_and_load_nothing_from_other_hosts(
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


BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_the_theme_is_the_systems_until_the_user_chooses_one(
    site: Server, visit: Callable[..., Visit]
) -> None:
    light, dark = (visit(site, color_scheme=scheme).open() for scheme in ("light", "dark"))
    for tab in (light, dark):
        expect(tab.page.locator("#overview")).to_be_visible()
    light_background, dark_background = (
        light.page.evaluate(BACKGROUND),
        dark.page.evaluate(BACKGROUND),
    )
    assert light_background != dark_background
    light.press("Dark")
    assert light.page.evaluate(BACKGROUND) == dark_background
    light.page.reload()
    expect(light.page.get_by_role("button", name="Light", exact=True)).to_be_visible()
    assert light.page.evaluate(BACKGROUND) == dark_background
    light.press("Light")
    assert light.page.evaluate(BACKGROUND) == light_background
    light.page.emulate_media(color_scheme="dark")  # it is followed again
    assert light.page.evaluate(BACKGROUND) == dark_background


ENDS = r"""
import os, sys
print("\x1b[31mred\x1b[42mground\x1b[0m \x1b[1;33mx\x1b[2my")
open(os.environ["ROBOTNI_RESULT"], "w").write("[1]")
sys.exit(%d)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_view(
    site: Server, visit: Callable[..., Visit], scheme: str
) -> None:
    ended = {code: site.submit(ENDS % code, retries=code) for code in (0, 1)}
    running = site.client.submit({"type": "fakejob", "params": {"seconds": 60}})["jobId"]
    site.client.submit({"type": "fakejob", "delay": 3600})
    for job_id in ended.values():
        site.wait_for(job_id)
    site.wait_for(running, "running")
    tab = visit(site, color_scheme=scheme)
    tab.refusals = {422, 404}
    tab.page.add_init_script(path=AXE)
    tab.open()
    expect(tab.rows.first).to_be_visible()
    tab.rows.first.get_by_role("checkbox").check()
    found = {"list": violations(tab)}
    for name, job_id in (("ended", ended[0]), ("failed", ended[1]), ("running", running)):
        tab.open_job(job_id)
        expect(tab.state).to_be_visible()
        tab.page.get_by_role("searchbox", name="Search the output").fill("r")
        found[name] = violations(tab)
    tab.open("/webdemo#/new")
    tab.page.get_by_label("Script", exact=True).fill("../x")
    tab.press("Run")
    expect(tab.page.locator(".error").first).to_be_visible()
    tab.page.locator("summary").click()
    found["form"] = violations(tab)
    tab.open("/webdemo#/jobs/nothing")
    expect(tab.page.locator("#job-missing")).to_contain_text("no such job")
    found["missing"] = violations(tab)
    tab.open("/webdemo")
    tab.press("Flush queue…")
    expect(tab.page.get_by_role("dialog")).to_be_visible()
    found["dialog"] = violations(tab)
    tab.press("Back")
    site.client.cancel(running)
    assert found == {view: [] for view in found}


def violations(tab: Visit) -> List[Any]:
    result: Dict[str, Any] = tab.page.evaluate("axe.run()")
    return [
        (
            violation["id"],
            violation["impact"],
            [node["html"][:120] for node in violation["nodes"]][:3],
        )
        for violation in result["violations"]
    ]


def test_everything_can_be_done_by_keyboard_and_the_focus_is_visible(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(site).open()
    expect(tab.page.locator("#overview")).to_be_visible()
    keys = tab.page.keyboard
    keys.press("Tab")
    expect(tab.page.get_by_role("link", name="Skip to content")).to_be_focused()
    keys.press("Enter")
    expect(tab.page.get_by_role("main")).to_be_focused()
    keys.press("Tab")
    expect(tab.page.get_by_role("button", name="Add 5 + 3")).to_be_focused()
    assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keys.press("Enter")
    link = tab.page.get_by_role("link", name="Show it")
    expect(link).to_be_visible()
    expect(tab.page.get_by_role("button", name="Add 5 + 3")).to_be_focused()
    link.focus()
    keys.press("Enter")
    site.wait_for(tab.shown_job())
    tab.poll()
    expect(tab.state).to_contain_text("completed")
    expect(tab.page.get_by_role("heading", level=1)).to_be_focused()
    keys.press("Tab")
    expect(tab.page.get_by_role("button", name="Retry", exact=True)).to_be_focused()
    keys.press("Enter")
    expect(tab.notice).to_contain_text("new job")


def test_the_page_fits_a_narrow_window(site: Server, visit: Callable[..., Visit]) -> None:
    job_id = site.submit("print('x' * 500)", project="p" * 64, args=["y" * 300])
    site.wait_for(job_id)
    tab = visit(site, viewport={"width": 360, "height": 700}).open()
    expect(tab.rows.first).to_contain_text("p" * 64)
    width = "document.documentElement.scrollWidth"
    assert tab.page.evaluate(width) == 360
    tab.page.get_by_role("link", name="script-").first.click()
    expect(tab.state).to_contain_text("completed")
    assert tab.page.evaluate(width) == 360
    tab.page.get_by_role("link", name="New job").click()
    expect(tab.page.get_by_role("button", name="Run", exact=True)).to_be_visible()
    assert tab.page.evaluate(width) == 360
