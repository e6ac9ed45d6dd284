"""The view of one job in a real Chromium: what it shows, its output, and its buttons."""

import re
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from playwright.sync_api import expect

from robotni.tests.browser.tabs import Visit, run_curl
from robotni.tests.processes import Server, eventually

# Prints its arguments, waits for the file `go`, writes a result.
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
print("\x1b]8;;http://evil.example\x07 \x1b[2J \u202egnp.exe\u202c\r", flush=True)
sys.stdout.buffer.write(b"bad \xff\n")
sys.exit("</script>")
"""
COLOURS = r"""
import sys
print("plain \x1b[1;31mred\x1b[0m \x1b[38;5;208morange\x1b[m \x1b[48;2;1;2;3mground\x1b[49m end")
sys.stdout.write("\x1b[3"); sys.stdout.flush()
input()
print("2mgreen\x1b[39m after")
"""
LINES = """
import pathlib, time
for n in range(300): print(f"line {n}")
while not pathlib.Path("more").exists(): time.sleep(0.01)
for n in range(300, 600): print(f"line {n}")
"""
BARS = r"""
import sys
for n in range(2001):
    sys.stderr.write("\r%3d%%|%s| %d/2000" % (n // 20, "#" * (n // 200), n))
sys.stderr.write("\n\x1b[?25lone\x1b[2K\rtwo\x1b[1A\x1b[K\x1b[?25h\r\n")
sys.stderr.write("long line\rshort\nabc\b\b\x1b[31mX\x1b[0m\nlong line\r\x1b[K<b>bold</b>\x1b")
sys.stderr.flush()
sys.stdin.readline()
sys.stderr.write("[2K\rlast")
"""
FLOOD = """
line = "\\x1b[32m%08d\\x1b[0m the quick brown fox jumps over the lazy dog,"
line += " a line of a hundred bytes"
print("\\n".join(line % n for n in range(117_000)))
"""


def test_output_grows_and_only_what_is_new_is_fetched(
    site: Server, visit: Callable[..., Visit]
) -> None:
    job_id = site.submit(SCRIPT, args=["--n", "3 4"])
    eventually(lambda: site.client.get(job_id)["outputBytes"])
    tab = visit(site).open_job(job_id)
    begin = "begin ['--n', '3 4']\n"
    expect(tab.output).to_have_text(begin)
    expect(tab.state).to_contain_text("running")
    (site.project / "go").touch()
    site.wait_for(job_id)
    with tab.page.expect_request("**/output?*") as asked:
        tab.poll()
    assert asked.value.headers["range"] == f"bytes={len(begin)}-"
    expect(tab.state).to_contain_text("completed after")
    expect(tab.output).to_have_text(f"{begin}end: ä\n")
    expect(tab.page.locator("#result")).to_have_text(RESULT)
    expect(tab.page.locator("#timeline li")).to_contain_text(
        ["Created", "Attempt 1 started", "Completed"]
    )
    before = len(tab.requests)
    tab.poll()
    tab.page.get_by_role("link", name="All jobs").click()
    expect(tab.rows.first).to_contain_text("script-")
    assert not [url for url in tab.requests[before:] if "/output" in url]


def test_a_fake_job_shows_its_progress_and_is_cancelled(
    site: Server, visit: Callable[..., Visit]
) -> None:
    job_id = site.client.submit({"type": "fakejob", "params": {"seconds": 60}})["jobId"]
    tab = visit(site).open()
    expect(tab.rows.first).to_contain_text("fakejob --seconds 60")
    eventually(lambda: site.client.list()["jobs"][0]["progress"])
    tab.poll()
    expect(tab.rows.first).to_contain_text(re.compile(r"step \d+ of 20"))
    expect(tab.rows.first.get_by_role("progressbar")).to_be_visible()
    tab.rows.first.get_by_role("link").click()
    expect(tab.page.get_by_role("progressbar")).to_be_visible()
    tab.press("Cancel")
    expect(tab.page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    expect(tab.page.get_by_role("heading", level=1)).to_be_focused()
    site.wait_for(job_id, "cancelled")
    tab.poll()
    expect(tab.state).to_contain_text("cancelled")
    expect(tab.page.get_by_role("button", name="Retry", exact=True)).to_be_visible()


def test_a_job_that_has_not_started_is_revoked(site: Server, visit: Callable[..., Visit]) -> None:
    job_id = site.client.submit({"type": "fakejob", "delay": 3600})["jobId"]
    tab = visit(site).open_job(job_id)
    expect(tab.state).to_contain_text("due in")
    with tab.page.expect_response(f"**/queue/{job_id}") as revoked:
        tab.press("Revoke")
    assert revoked.value.json() == {"task_id": job_id, "revoked": True}
    expect(tab.notice).to_contain_text("will not start")
    expect(tab.state).to_contain_text("cancelled before it started")
    expect(tab.page.locator("#output-note")).to_have_text("The script wrote nothing.")


def test_a_failed_job_shows_its_error_and_attempts_and_is_retried(
    site: Server, visit: Callable[..., Visit]
) -> None:
    script = "import os; print('try', os.environ['ROBOTNI_ATTEMPT']); import nothing_of_that_name"
    first = site.submit(script, retries=1, env={"API_URL": "hidden"}, params={"dry": True})
    site.wait_for(first)
    tab = visit(site).open_job(first)
    error = tab.page.locator("#job-error")
    expect(error).to_contain_text("exit_nonzero")
    expect(error).to_contain_text("ended with exit code 1")
    expect(tab.output).to_contain_text("No module named")
    expect(tab.output).to_contain_text("try 2")
    expect(tab.page.locator("#timeline li")).to_contain_text(
        ["Created", "exit code 1", "exit code 1", "Failed"]
    )
    tab.page.get_by_label("Attempt").select_option("1")
    expect(tab.output).to_contain_text("try 1")
    expect(tab.output).not_to_contain_text("try 2")
    facts = tab.page.locator("#facts")
    for words in ("Exit code1", "Attempt2 of 2", "API_URL", '"dry": true', "Timeout1 h"):
        expect(facts).to_contain_text(words)
    expect(facts).not_to_contain_text("hidden")
    tab.press("Retry")
    expect(tab.page.locator("#facts")).to_contain_text(f"Retry of{first}")
    assert site.client.list()["jobs"][0]["retryOf"] == first


def test_hostile_output_and_file_names_are_text(site: Server, visit: Callable[..., Visit]) -> None:
    name = "<img src=x onerror=alert(1)>\u202eyp.txt.py"
    shown = "<img src=x onerror=alert(1)>⟨U+202E⟩yp.txt.py"
    (site.project / name).write_text(HOSTILE)
    job_id = site.client.submit({"script": name, "venv": ".venv"})["jobId"]
    site.wait_for(job_id)
    tab = visit(site).open_job(job_id)
    expect(tab.page.get_by_role("heading", level=1)).to_have_text(shown)
    expect(tab.page.locator("#job-error")).to_contain_text(shown)
    output = tab.output
    expect(output).to_contain_text("<script>alert(1)</script></pre><img src=x onerror=alert(1)>")
    expect(output).to_contain_text("⟨ESC⟩]8;;http://evil.example⟨U+0007⟩ ⟨ESC⟩[2J")
    expect(output).to_contain_text("⟨U+202E⟩gnp.exe⟨U+202C⟩")
    expect(output).to_contain_text("bad \N{REPLACEMENT CHARACTER}\n")
    assert output.locator(":not(.chunk)").count() == 0
    assert not set("\x1b\x07\u202e\u202c") & set(tab.page.locator("body").inner_text())
    assert not set("\u202e\u202c") & set(tab.page.title())
    tab.page.get_by_role("link", name="All jobs").click()
    expect(tab.rows.first.get_by_role("link")).to_have_text(shown)
    outcome = tab.rows.first.locator(".outcome span")
    assert "⟨U+202E⟩" in (outcome.get_attribute("title") or "")
    assert tab.page.locator("main img, main script").count() == 0


def test_colours_are_shown_also_when_a_sequence_arrives_in_two_parts(
    site: Server, visit: Callable[..., Visit]
) -> None:
    job_id = site.submit(COLOURS, stdin="go\n")
    site.wait_for(job_id)
    tab = visit(site)
    cut = len("plain \x1b[1;31mred\x1b[0m \x1b[38;5;208morange\x1b[m ")
    cut += len("\x1b[48;2;1;2;3mground\x1b[49m end\n\x1b[3")
    whole = site.http.get(f"/api/worker/jobs/{job_id}/output").content
    tab.context.route(  # the rest comes with a later poll, and begins within an escape sequence
        "**/output?*",
        lambda route: route.fulfill(
            status=206,
            **(
                part(whole[:cut], 0, cut)
                if route.request.headers["range"] == "bytes=0-"
                else part(whole[cut:], cut, len(whole))
            ),
        ),
    )
    running = {"status": "running", "finishedAt": None, "output": None}
    tab.context.route(
        f"**/api/worker/jobs/{job_id}",
        lambda route: route.fulfill(
            json={**site.client.get(job_id), **(running if len(tab.requests) < before else {})}
        ),
    )
    before = 10**6
    tab.open_job(job_id)
    expect(tab.output).to_have_text("plain red orange ground end\n")
    before = 0
    tab.poll()
    expect(tab.output).to_have_text("plain red orange ground end\ngreen after\n")
    red, orange, ground, green = tab.output.locator("span").all()
    assert red.get_attribute("class") == "bold fg-1"
    assert green.get_attribute("class") == "fg-2"
    color = "(span) => getComputedStyle(span).color"
    assert red.evaluate(color) != green.evaluate(color) != tab.output.evaluate(color)
    assert orange.evaluate(color) == "rgb(255, 135, 0)"
    assert ground.evaluate("(s) => getComputedStyle(s).backgroundColor") == "rgb(1, 2, 3)"


def test_a_progress_bar_is_one_line(site: Server, visit: Callable[..., Visit]) -> None:
    job_id = site.submit(BARS, stdin="go\n")
    site.wait_for(job_id)
    tab = visit(site).open_job(job_id)
    lines = ["100%|##########| 2000/2000", "two", "shortline", "aXc", "last"]
    expect(tab.output).to_have_text("\n".join(lines))
    assert tab.output.evaluate("(pre) => pre.textContent") == "\n".join(lines)
    assert tab.output.locator("span").inner_text() == "X"
    assert tab.output.locator("b").count() == 0
    tab.page.get_by_label("Search the output").fill("last")  # the last line is found, too
    expect(tab.page.get_by_role("status").filter(has_text="1 of 1")).to_be_visible()


def part(body: bytes, start: int, size: int) -> Dict[str, Any]:
    said = f"bytes {start}-{start + len(body) - 1}/{size}"
    return {"body": body, "headers": {"Content-Range": said}}


def test_past_the_cap_the_beginning_and_the_end_are_shown(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server(max_output=400)
    job_id = server.submit("for n in range(1000): print('%09d' % n)\nraise ValueError('cause')")
    server.wait_for(job_id)
    tab = visit(server).open_job(job_id)
    expect(tab.output).to_contain_text("ValueError: cause")
    expect(tab.output).to_contain_text("000000019\n")
    expect(tab.output).to_contain_text("bytes of output are left out here]\n")
    expect(tab.page.locator("#job-error")).to_contain_text("exit code 1: ValueError: cause")
    with tab.page.expect_download() as started:
        tab.press("Download")
    downloaded = Path(started.value.path()).read_bytes()
    assert downloaded == server.http.get(f"/api/worker/jobs/{job_id}/output").content


AT_END = "(pre) => pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 2"


def test_the_end_is_followed_until_the_user_scrolls_up(
    site: Server, visit: Callable[..., Visit]
) -> None:
    job_id = site.submit(LINES)
    eventually(lambda: site.client.get(job_id)["outputBytes"] >= 2590)
    tab = visit(site).open_job(job_id)
    follow = tab.page.get_by_role("button", name="Follow")
    expect(tab.output).to_contain_text("line 299")
    expect(follow).to_have_attribute("aria-pressed", "true")
    eventually(lambda: tab.output.evaluate(AT_END))
    tab.output.hover()
    tab.page.mouse.wheel(0, -600)
    expect(follow).to_have_attribute("aria-pressed", "false")
    place = tab.output.evaluate("(pre) => pre.scrollTop")
    (site.project / "more").touch()
    site.wait_for(job_id)
    tab.poll()
    expect(tab.output).to_contain_text("line 599")
    assert tab.output.evaluate("(pre) => pre.scrollTop") == place
    follow.click()
    eventually(lambda: tab.output.evaluate(AT_END))


LONGEST = """addEventListener("DOMContentLoaded", () => {
    window.longest = 0;
    new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
    }).observe({ entryTypes: ["longtask"] });
});"""
CURRENT = """() => {
    const [range] = CSS.highlights.get("current");
    const [box, frame] = [range, document.getElementById("output")].map((one) =>
        one.getBoundingClientRect());
    return [range.toString(), box.top >= frame.top && box.bottom <= frame.bottom];
}"""


def test_ten_mebibytes_are_shown_searched_copied_and_downloaded(
    site: Server, visit: Callable[..., Visit]
) -> None:
    job_id = site.submit(FLOOD)
    job = site.wait_for(job_id)
    assert job["outputBytes"] > 10_000_000
    tab = visit(site)
    tab.page.add_init_script(LONGEST)
    tab.open_job(job_id)
    last = "(pre) => pre.lastElementChild?.textContent.includes('00116999')"
    eventually(lambda: tab.output.evaluate(last))
    assert tab.page.evaluate("longest") < 2000  # ms; nothing else could be done meanwhile
    search = tab.page.get_by_role("searchbox", name="Search the output")
    search.fill("0005000")
    status = tab.page.locator(".search [role=status]")
    expect(status).to_have_text("11 of 11")
    eventually(lambda: tab.page.evaluate(CURRENT) == ["0005000", True])
    search.press("Enter")
    expect(status).to_have_text("10 of 11")
    tab.page.get_by_role("button", name="Next match").click()
    tab.page.get_by_role("button", name="Next match").click()
    expect(status).to_have_text("1 of 11")
    search.fill("QUICK (brown")
    expect(status).to_have_text("0 of 0")
    tab.press("Copy")
    expect(tab.notice).to_contain_text("copied")
    copied = tab.copied()
    assert copied.count("\n") == 117_000
    assert copied.startswith("00000000 the quick")
    with tab.page.expect_download() as download:
        tab.press("Download")
    assert Path(download.value.path()).stat().st_size == job["outputBytes"]
    assert download.value.suggested_filename == f"{job_id}-1.log"


@pytest.mark.parametrize("what", ["show", "output", "retry"])
def test_requests_about_a_job_are_copied_as_curl(
    site: Server, visit: Callable[..., Visit], what: str
) -> None:
    job_id = site.submit("print('hello')")
    site.wait_for(job_id)
    tab = visit(site).open_job(job_id)
    tab.press(f"Copy {what}")
    expect(tab.notice).to_contain_text("copied")
    answer = run_curl(site, tab.copied())
    if what == "output":
        assert (answer.status_code, answer.text) == (206, "hello\n")
    else:
        assert answer.json()["retryOf" if what == "retry" else "jobId"] == job_id


def test_the_page_says_that_a_job_does_not_exist(site: Server, visit: Callable[..., Visit]) -> None:
    tab = visit(site)
    tab.refusals = {404}
    tab.open_job("0" * 32)
    expect(tab.page.locator("#job-missing")).to_contain_text("there is no such job")
    expect(tab.page.locator("#connection")).to_be_empty()
