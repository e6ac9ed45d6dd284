"""The list in a real Chromium: overview, charts, filters, and actions on selected jobs."""

from typing import Callable, List

from playwright.sync_api import expect

from robotni.tests.browser.tabs import Visit, run_curl
from robotni.tests.processes import Server, eventually

COLORS = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) {
        seen.add(`rgb(${data[i]}, ${data[i + 1]}, ${data[i + 2]})`);
    }
    return [...seen];
}"""


def test_the_overview_shows_worker_queue_and_limits(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server(workers=1)
    server.wait_for(server.submit("print(1)"))
    server.wait_for(server.submit("raise SystemExit(1)"))
    running = server.client.submit({"type": "fakejob", "params": {"seconds": 60}})["jobId"]
    server.wait_for(running, "running")
    server.client.submit({"type": "fakejob"})
    server.client.submit({"type": "fakejob", "delay": 3600})
    tab = visit(server).open()
    overview = tab.page.locator("#overview")
    for words in ("1 of 1", "consumer running", "1 pending, 1 scheduled", "100 %"):
        expect(overview).to_contain_text(words)
    expect(overview.locator("div", has_text="API p95")).to_contain_text(" ms")
    expect(overview.locator("div", has_text="Next wake-up")).to_contain_text("in ")
    expect(overview.locator("div", has_text="Oldest waiting")).to_contain_text(" s")
    counts = tab.page.locator("#counts button")
    expect(counts).to_have_text(
        ["scheduled 1", "pending 1", "running 1", "completed 1", "failed 1", "cancelled 0"]
    )


def test_charts_show_the_last_hour_and_the_last_day(
    site: Server, visit: Callable[..., Visit]
) -> None:
    site.wait_for(site.submit("print(1)"))
    site.wait_for(site.submit("raise SystemExit(1)"))
    stats = site.http.get("/api/worker/stats").json()["buckets"]
    tab = visit(site).open()
    charts = tab.page.locator("#charts")
    completed = sum(bucket["completed"] for bucket in stats)
    expect(charts).to_contain_text(f"{completed} completed, 1 failed, 0 cancelled")
    expect(charts).to_contain_text("latest p50 0.")
    badges = tab.page.locator("#counts .badge")
    wanted = {
        badges.nth(place).evaluate("(badge) => getComputedStyle(badge).color") for place in (3, 4)
    }
    canvases = charts.locator("canvas")
    expect(canvases).to_have_count(2)
    eventually(lambda: wanted <= set(canvases.first.evaluate(COLORS)))
    with tab.page.expect_response("**/api/worker/stats?window=24h") as day:
        tab.press("24h")
    assert len(day.value.json()["buckets"]) == 48
    expect(charts.get_by_role("heading")).to_have_text("Last day")
    expect(charts).to_contain_text("1 failed")


def names(tab: Visit) -> List[str]:
    return tab.rows.locator(".name a").all_inner_texts()


def test_a_search_is_aborted_when_another_one_replaces_it(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(site).open()
    search = tab.page.get_by_label("Search")
    slow, quick = "**/api/worker/jobs?*q=slow*", "**/api/worker/jobs?*q=quick*"
    tab.context.route(slow, lambda route: None)  # no answer comes
    with tab.page.expect_request(slow):
        search.fill("slow")
        tab.page.clock.fast_forward(1000)
    with tab.page.expect_response(quick):
        search.fill("quick")
        tab.page.clock.fast_forward(1000)
    expect(tab.page.get_by_text("No job matches these filters")).to_be_visible()
    expect(tab.page.get_by_text("not reachable")).to_have_count(0)
    assert ["q=slow" in url for url in tab.aborted] == [True]


def test_filters_narrow_the_list_and_are_part_of_the_address(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server()
    for name, text in (("good.py", "print(1)"), ("bad.py", "raise SystemExit(1)")):
        (server.project / name).write_text(text)
    for script, project in (("good.py", "shop"), ("bad.py", "shop"), ("bad.py", "crm")):
        job = {"script": script, "venv": ".venv", "project": project}
        server.wait_for(server.client.submit(job)["jobId"])
    server.client.submit({"type": "fakejob", "delay": 3600})
    tab = visit(server).open()
    expect(tab.rows).to_have_count(4)
    tab.page.get_by_role("button", name="failed").click()
    expect(tab.rows).to_have_count(2)
    tab.page.get_by_role("button", name="scheduled").click()
    expect(tab.rows).to_have_count(3)
    assert tab.page.url.endswith("#/?status=scheduled,failed")
    tab.page.get_by_label("Project").fill("crm")
    expect(tab.rows).to_have_count(1)
    assert tab.page.url.endswith("#/?status=scheduled,failed&project=crm")
    tab.page.reload()
    expect(tab.rows).to_have_count(1)
    expect(tab.page.get_by_label("Project")).to_have_value("crm")
    expect(tab.page.get_by_role("button", name="failed")).to_have_attribute("aria-pressed", "true")
    tab.press("Clear")
    expect(tab.rows).to_have_count(4)
    tab.page.get_by_label("Search").fill("goo")
    expect(tab.rows).to_have_count(1)
    assert names(tab) == ["good.py"]
    tab.page.get_by_label("Search").fill("nothing like it")
    tab.press("Show all")
    expect(tab.rows).to_have_count(4)
    expect(tab.page.get_by_label("Search")).to_have_value("")
    tab.page.get_by_label("Type").select_option("fakejob")
    expect(tab.rows).to_have_count(1)
    assert names(tab) == ["fakejob"]
    tab.page.go_back()
    expect(tab.rows).to_have_count(4)
    newest = server.client.list()["jobs"][0]["jobId"]
    tab.page.get_by_label("Search").fill(newest[:20])
    expect(tab.rows).to_have_count(1)


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
    assert not [url for url in tab.requests if "offset" in url]


def test_several_jobs_are_cancelled_and_submitted_again(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server()
    jobs = [server.client.submit({"type": "fakejob", "delay": 3600})["jobId"] for _ in range(3)]
    running = server.client.submit({"type": "fakejob", "params": {"seconds": 60}})["jobId"]
    server.wait_for(running, "running")
    tab = visit(server).open()
    expect(tab.rows).to_have_count(4)
    for place in (0, 1, 2):
        tab.rows.nth(place).get_by_role("checkbox").check()
    expect(tab.page.locator("#selection")).to_have_text("3 selected")
    tab.press("Cancel 3…")
    question = tab.page.get_by_role("dialog")
    expect(question).to_contain_text("Cancel 3 jobs?")
    tab.press("Back")
    expect(question).to_be_hidden()
    assert server.client.get(running)["status"] == "running"
    tab.press("Cancel 3…")
    tab.press("Cancel them")
    expect(tab.notice).to_contain_text("3 jobs cancelled")
    server.wait_for(running, "cancelled")
    tab.poll()
    expect(tab.rows.filter(has_text="cancelled")).to_have_count(3)
    assert server.client.get(jobs[0])["status"] == "scheduled"
    expect(tab.page.locator("#selection")).to_be_empty()
    tab.page.get_by_label("Select all that are shown").check()
    expect(tab.page.locator("#selection")).to_have_text("4 selected")
    tab.press("Retry 3…")
    tab.press("Submit again")
    expect(tab.notice).to_contain_text("3 jobs submitted again")
    expect(tab.rows).to_have_count(7)


def test_the_notice_says_which_of_several_jobs_the_server_refused(
    make_server: Callable[..., Server], visit: Callable[..., Visit]
) -> None:
    server = make_server()
    job_id = server.submit("print(1)")
    later = server.client.submit({"type": "fakejob", "delay": 3600})["jobId"]
    server.wait_for(job_id)
    (job,) = [j for j in server.client.list()["jobs"] if j["jobId"] == job_id]
    tab = visit(server).open()
    expect(tab.rows).to_have_count(2)
    tab.refusals = {422}
    (server.project / job["script"]).unlink()
    tab.rows.nth(1).get_by_role("checkbox").check()
    tab.press("Retry 1…")
    tab.press("Submit again")
    expect(tab.notice).to_contain_text("0 jobs submitted again; 1 refused")
    assert server.client.get(later)["status"] == "scheduled"


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
    tab.press("Back")
    expect(question).to_be_hidden()
    assert server.client.status()["queue"]["pending"] == 2
    tab.press("Flush queue…")
    tab.press("Cancel them")
    expect(tab.notice).to_contain_text("Cancelled 2 pending and 1 scheduled")
    expect(tab.rows.filter(has_text="cancelled")).to_have_count(3)
    expect(tab.rows.filter(has_text="running")).to_have_count(1)
    tab.press("Flush queue…")
    expect(tab.notice).to_contain_text("No job is waiting")


def test_add_and_fakejob_are_started_by_one_click(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = visit(site).open()
    tab.press("Add 5 + 3")
    job_id = tab.show_started()
    site.wait_for(job_id)
    tab.poll()
    expect(tab.page.locator("#result")).to_have_text("8")
    tab.page.get_by_role("link", name="All jobs").click()
    tab.press("Fake job")
    expect(tab.rows.first).to_contain_text("fakejob")
    site.client.cancel(tab.show_started())


def test_times_are_relative_and_their_title_is_exact_in_the_users_zone(
    site: Server, visit: Callable[..., Visit]
) -> None:
    job_id = site.submit("print(1)")
    job = site.wait_for(job_id)
    tab = visit(site, timezone_id="Asia/Tokyo", locale="en-GB").open(f"/webdemo#/?q={job_id}")
    created = tab.rows.first.locator(".created time")
    expect(created).to_contain_text("ago")
    hour = (int(job["timestamp"][11:13]) + 9) % 24
    title = created.get_attribute("title") or ""
    assert f" {hour:02d}:{job['timestamp'][14:16]}:" in title
    assert job["timestamp"] in title
    tab.page.clock.fast_forward(3_600_000)
    expect(created).to_have_text("1 h ago")


def test_the_request_of_a_list_is_copied_as_curl(site: Server, visit: Callable[..., Visit]) -> None:
    site.wait_for(site.submit("print(1)", project="it"))
    tab = visit(site).open("/webdemo#/?status=completed&project=it")
    expect(tab.rows).to_have_count(1)
    tab.press("Copy as curl")
    expect(tab.notice).to_contain_text("copied")
    found = run_curl(site, tab.copied()).json()["jobs"]
    assert [job["project"] for job in found] == ["it"]
