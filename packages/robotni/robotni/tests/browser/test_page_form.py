"""The form of a new job in a real Chromium: made from schemas, errors at their fields."""

from typing import Callable

from playwright.sync_api import expect

from robotni.tests.browser.tabs import Visit, run_curl
from robotni.tests.processes import Server


def open_form(tab: Visit, type_: str = "python-script") -> Visit:
    tab.open(f"/webdemo#/new/{type_}")
    expect(tab.page.locator("#new-job")).to_be_visible()
    return tab


def test_every_field_of_a_submit_is_in_the_form_and_arrives(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = open_form(visit(site, timezone_id="Asia/Tokyo"))
    fields = {
        "Script": "hello.py",
        "Virtual environment": ".venv",
        "Arguments": "--n\n3 4\n",
        "Parameters": '{"x": 12345678901234567890123, "tag": ["a"]}',
        "Standard input": "one\ntwo",
        "Environment": "API_URL=http://x?a=b\nEMPTY=",
        "Working folder": ".",
        "Preload": "decimal\nxml.dom",
        "Timeout": "60.5",
        "Retries": "2",
        "Retry delay": "1.5",
        "Expires": "3600",
        "Run at": "2090-01-02T03:04:05",
        "Project": "shop",
    }
    tab.page.locator("summary").click()
    schema = site.http.get("/openapi.json").json()["components"]["schemas"]["JobRequest"]
    shown = tab.page.locator("#new-job .field label").all_inner_texts()
    assert len(shown) == len(set(schema["properties"]) - {"type"})
    assert set(fields) <= set(shown)
    for label, text in fields.items():
        tab.page.get_by_label(label, exact=True).fill(text)
    tab.page.get_by_label("Warm", exact=True).select_option("true")
    with tab.page.expect_request("**/api/worker/jobs") as sent:
        tab.press("Run")
    job = site.client.get(tab.shown_job())
    assert (job["warm"], job["preload"]) == (True, ["decimal", "xml.dom"])
    assert job["args"] == ["--n", "3 4"]
    assert job["params"] == {"x": 12345678901234567890123, "tag": ["a"]}
    assert job["env"] == ["API_URL", "EMPTY"]
    assert (job["timeout"], job["expires"], job["maxAttempts"]) == (60.5, 3600, 3)
    assert (job["runAt"], job["project"]) == ("2090-01-01T18:04:05.000Z", "shop")
    body = sent.value.post_data_json
    assert (body["stdin"], body["retryDelay"]) == ("one\ntwo", 1.5)
    assert body["env"] == {"API_URL": "http://x?a=b", "EMPTY": ""}
    expect(tab.notice).to_contain_text("in the queue")
    expect(tab.page.locator("#facts")).to_contain_text("Warmdecimalxml.dom")
    site.client.cancel(job["jobId"])


def test_fields_that_are_left_empty_are_not_sent(site: Server, visit: Callable[..., Visit]) -> None:
    tab = open_form(visit(site))
    tab.page.get_by_label("Script", exact=True).fill("hello.py")
    with tab.page.expect_request("**/api/worker/jobs") as sent:
        tab.page.get_by_label("Script", exact=True).press("Enter")
    site.wait_for(tab.shown_job())
    assert sent.value.post_data_json == {"script": "hello.py", "venv": ".venv"}
    tab.poll()
    expect(tab.output).to_have_text("hello\n")


def test_what_the_server_refuses_is_shown_at_the_field(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = open_form(visit(site))
    before = site.client.status()["jobs"]
    tab.refusals = {422}
    script = tab.page.get_by_label("Script", exact=True)
    timeout = tab.page.get_by_label("Timeout", exact=True)
    tab.page.locator("summary").click()
    timeout.fill("soon")
    tab.page.locator("summary").click()
    expect(timeout).to_be_hidden()
    script.fill("../hello.py")
    tab.press("Run")
    for field, words in ((script, "the path has '..'"), (timeout, "number")):
        expect(field).to_be_visible()  # also the one that was folded away
        expect(field).to_have_attribute("aria-invalid", "true")
        described = (field.get_attribute("aria-describedby") or "").split()
        expect(tab.page.locator(f"#{described[-1]}")).to_contain_text(words)
    expect(script).to_be_focused()
    script.fill("gone.py")
    timeout.fill("")
    tab.press("Run")
    expect(tab.page.locator(".error")).to_have_count(1)
    expect(tab.page.locator(".error")).to_contain_text("gone.py does not exist")
    assert site.client.status()["jobs"] == before
    script.fill("hello.py")
    tab.press("Run")
    tab.shown_job()


def test_an_error_within_a_list_is_shown_at_the_field_of_the_list(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = open_form(visit(site))
    tab.refusals = {422}
    tab.page.get_by_label("Script", exact=True).fill("hello.py")
    environment = tab.page.get_by_label("Environment", exact=True)
    tab.page.locator("summary").click()
    environment.fill("PATH=/bin")
    tab.press("Run")
    expect(environment).to_have_attribute("aria-invalid", "true")
    expect(tab.page.locator(".error")).to_contain_text("PATH may not be set")


def test_invalid_input_is_shown_without_asking_the_server(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = open_form(visit(site))
    params = tab.page.get_by_label("Parameters", exact=True)
    before = len(tab.requests)
    for text, label, words in (
        ("{x: 1}", "Parameters", "not JSON"),
        ("A line without", "Environment", "NAME=value"),
    ):
        field = tab.page.get_by_label(label, exact=True)
        if not field.is_visible():
            tab.page.locator("summary").click()
        field.fill(text)
        tab.press("Run")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(tab.page.locator(".error")).to_contain_text(words)
        field.fill("")
    expect(params).to_have_value("")
    assert not [url for url in tab.requests[before:] if url.endswith("/api/worker/jobs")]


def test_the_form_of_a_type_is_made_from_its_schema(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = open_form(visit(site))
    tab.page.get_by_role("link", name="Fake job").click()
    expect(tab.page.get_by_role("heading", level=2)).to_have_text("Fake job")
    seconds = tab.page.get_by_label("Seconds", exact=True)
    expect(seconds).to_have_value("10")
    for label in ("Script", "Warm", "Preload"):
        expect(tab.page.get_by_label(label, exact=True)).to_have_count(0)
    tab.refusals = {422}
    seconds.fill("-1")
    tab.press("Run")
    expect(tab.page.locator(".error")).to_contain_text("less than the minimum of 0")
    expect(seconds).to_be_focused()
    seconds.fill("0")
    tab.press("Run")
    site.wait_for(tab.shown_job(), "completed")


def test_integers_of_any_size_are_sent_and_shown_digit_for_digit(
    site: Server, visit: Callable[..., Visit]
) -> None:
    tab = open_form(visit(site), "add")
    x, y = 9007199254740993, -(10**60) + 7
    tab.page.get_by_label("x *", exact=True).fill(str(x))
    tab.page.get_by_label("y *", exact=True).fill(str(y))
    tab.press("Run")
    site.wait_for(tab.shown_job())
    tab.poll()
    expect(tab.page.locator("#result")).to_have_text(str(x + y))
    expect(tab.page.locator("#facts")).to_contain_text(f'"x": {x},')


def test_the_request_of_a_form_is_copied_as_curl(site: Server, visit: Callable[..., Visit]) -> None:
    tab = open_form(visit(site))
    tab.page.get_by_label("Script", exact=True).fill("hello.py")
    tab.page.get_by_label("Arguments", exact=True).fill("it's $HOME")
    tab.press("Copy as curl")
    expect(tab.notice).to_contain_text("copied")
    answer = run_curl(site, tab.copied())
    assert answer.status_code == 202
    assert answer.json()["args"] == ["it's $HOME"]
