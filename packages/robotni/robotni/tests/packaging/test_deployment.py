"""The files of `deploy/`, tried: what they say is what the tests here start.

No systemd runs under a test and no container engine can be counted on, so two small readers follow
the lines of a unit and of the Dockerfile; nginx is a real one, with TLS. A test that lacks its
program skips with a sentence, or fails where REQUIRE_DEPLOY is 1.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from robotni.tests.browser.tabs import ARGS
from robotni.tests.calls import HELLO, problem
from robotni.tests.paths import ROOT
from robotni.tests.processes import Server, end_all, eventually, free_port, make_venv, processes_of

DEPLOY = ROOT / "deploy"
TOKEN = "a-token-of-the-public"
WAITS = """
import pathlib, time
with open("starts", "a") as starts:
    print("started", file=starts)
print("up")
while not pathlib.Path("go").exists():
    time.sleep(0.02)
print("done")
"""


def need(program: str, package: str) -> str:
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        missing = f"there is no {program} here; on Debian and Ubuntu: apt install {package}"
        if os.environ.get("REQUIRE_DEPLOY") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


# systemd


def unit_text(name: str, project: Path) -> str:
    """A unit with the paths a user changes, and no others, changed to those of the test."""
    text = (DEPLOY / name).read_text()
    for theirs, ours in (
        ("/opt/robotni/bin", str(Path(sys.executable).parent)),
        ("/srv/robotni", str(project)),
        ("/etc/robotni.env", str(project / "robotni.env")),
    ):
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


class Unit:
    """A service as systemd would start and stop it, by the lines of its file."""

    def __init__(self, name: str, project: Path) -> None:
        lines = unit_text(name, project).splitlines()
        pairs = [line.partition("=") for line in lines if re.match(r"[A-Z]\w+=", line)]
        self.says = {key: value for key, _, value in pairs}
        self._pairs = [(key, value) for key, _, value in pairs]
        self._project = project
        self.process: Any = None

    def start(self) -> None:
        with open(self._project / "journal", "ab") as journal:
            self.process = subprocess.Popen(
                shlex.split(self.says["ExecStart"]),
                cwd=self.says["WorkingDirectory"],
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                start_new_session=True,
            )

    def _environ(self) -> Dict[str, str]:
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
        env.update(HOME="/nonexistent", USER="robotni", LOGNAME="robotni", SHELL="/bin/sh")
        for key, value in self._pairs:
            if key == "Environment":
                env.update(dict(pair.split("=", 1) for pair in shlex.split(value)))
        file = Path(self.says["EnvironmentFile"].lstrip("-"))
        lines = file.read_text().splitlines()
        env.update(dict(line.split("=", 1) for line in lines))
        return env

    def stop(self) -> int:
        """The exit code of the main process, which is the only one told if KillMode says so."""
        told = [self.process.pid]
        if self.says["KillMode"] != "process":
            told += [process.pid for process in processes_of(self._project)]
        for pid in told:
            os.kill(pid, getattr(signal, self.says["KillSignal"]))
        return int(self.process.wait(float(self.says["TimeoutStopSec"])))


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    """Of which the units are the processes; it speaks to them and ends what they leave."""
    server = Server(project)
    names = ("ROBOTNI_PORT", "ROBOTNI_DATA_DIR")
    lines = [f"{name}={server.environ[name]}\n" for name in names]
    (project / "robotni.env").write_text("".join(lines))
    yield server
    server.close()
    end_all(project)


def has_begun(server: Server, job_id: str) -> bool:
    return bool(server.client.output(job_id) == b"up\n")


def test_a_script_outlives_the_stop_of_the_web_unit_and_is_taken_up(server: Server) -> None:
    unit = Unit("robotni-web.service", server.project)
    unit.start()
    eventually(server.answers)
    job_id = server.submit(WAITS)
    eventually(lambda: has_begun(server, job_id))
    assert unit.stop() == 0
    assert server.workers() == []
    assert len(server.scripts(job_id)) > 0
    unit.start()
    eventually(server.answers)
    (server.project / "go").touch()
    job = server.wait_for(job_id)
    assert (job["status"], job["attempt"], job["output"]) == ("completed", 1, "up\ndone\n")
    assert (server.project / "starts").read_text() == "started\n"
    assert unit.stop() == 0


def test_the_two_units_together(server: Server) -> None:
    with open(server.project / "robotni.env", "a") as file:
        file.write("ROBOTNI_AUTOSTART=0\n")
    web = Unit("robotni-web.service", server.project)
    worker = Unit("robotni-worker.service", server.project)
    web.start()
    eventually(server.answers)
    job_id = server.submit(WAITS)
    worker.start()
    eventually(lambda: has_begun(server, job_id))
    assert worker.stop() == 0
    assert len(server.scripts(job_id)) > 0
    worker.start()
    eventually(lambda: server.client.status()["workers"]["consumer"] == "running")
    assert web.stop() == 0
    assert worker.process.poll() is None  # a web process that starts no worker sends none away
    assert worker.says["Restart"] == "always"
    web.start()
    eventually(server.answers)
    (server.project / "go").touch()
    job = server.wait_for(job_id)
    assert (job["status"], job["attempt"], job["output"]) == ("completed", 1, "up\ndone\n")
    assert (server.project / "starts").read_text() == "started\n"
    assert [web.stop(), worker.stop()] == [0, 0]


def test_wrong_settings_end_the_unit_for_good(server: Server) -> None:
    with open(server.project / "robotni.env", "a") as file:
        file.write("ROBOTNI_WORKERS=none\n")
    unit = Unit("robotni-web.service", server.project)
    unit.start()
    assert str(unit.process.wait(20)) == unit.says["RestartPreventExitStatus"]


@pytest.mark.parametrize("name", ["robotni-web.service", "robotni-worker.service"])
def test_systemd_takes_every_line_of_a_unit(name: str, tmp_path: Path) -> None:
    program = need("systemd-analyze", "systemd")
    (tmp_path / name).write_text(unit_text(name, tmp_path))
    answer = subprocess.run(
        [program, "verify", "--man=no", str(tmp_path / name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    about_ours = [line for line in answer.stdout.splitlines() if name in line]
    assert (about_ours, answer.returncode) == ([], 0), answer.stdout


@pytest.mark.parametrize("name", ["robotni-web.service", "robotni-worker.service"])
def test_no_line_of_a_unit_blinds_or_starves_a_shim(name: str, tmp_path: Path) -> None:
    says = Unit(name, tmp_path).says
    expected = {
        "PrivateTmp": "no",
        "ProtectHome": "no",
        "MemoryDenyWriteExecute": "no",
        "ProtectProc": "default",
        "ProcSubset": "all",
        "DynamicUser": "no",
        "LimitRTTIME": "infinity",
        "OOMPolicy": "continue",
        "KillMode": "process",
    }
    assert {key: says[key] for key in expected} == expected


# nginx


class Front:
    """nginx with `deploy/nginx.conf` before a server, and a browser's way to it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.port = free_port()
        certificate = self._certify(folder)
        self._configure(folder, certificate)
        nginx = need("nginx", "nginx")
        with open(folder / "nginx.log", "ab") as log:
            self._process = subprocess.Popen(
                [nginx, "-p", str(folder), "-e", "stderr", "-c", str(folder / "main.conf")],
                stderr=log,
            )
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        self.http = httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": "public.example", "Authorization": f"Bearer {TOKEN}"},
            verify=context,
            timeout=30,
            trust_env=False,
        )
        eventually(self._listens)

    def _certify(self, folder: Path) -> Path:
        openssl = need("openssl", "openssl")
        made = folder / "public.example.pem"
        options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        options += ["-subj", "/CN=public.example"]
        files = ["-keyout", str(folder / "public.example.key"), "-out", str(made)]
        subprocess.run([openssl, "req", *options, *files], check=True, stderr=subprocess.DEVNULL)
        return made

    def _configure(self, folder: Path, certificate: Path) -> None:
        """Only addresses and the certificate's place are changed."""
        text = (DEPLOY / "nginx.conf").read_text()
        for theirs, ours in (
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("/etc/ssl/public.example", str(certificate.with_suffix(""))),
            ("http://127.0.0.1:8000", self.server.url.replace("/robotni", "")),
        ):
            assert theirs in text
            text = text.replace(theirs, ours)
        (folder / "robotni.conf").write_text(text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "main.conf").write_text(
            f"daemon off; master_process off; pid {folder}/nginx.pid; events {{}}\n"
            f"http {{ access_log off; {temporary} include {folder}/robotni.conf; }}\n"
        )

    def _listens(self) -> bool:
        assert self._process.poll() is None, "nginx has ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self) -> None:
        self.http.close()
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    need("nginx", "nginx")
    project = tmp_path_factory.mktemp("behind")
    make_venv(project / ".venv")
    (project / "hello.py").write_text('print("hello")\n')
    server = Server(
        project,
        prefix="/robotni",
        root_path="/robotni",
        allowed_hosts="public.example,127.0.0.1",
        token=TOKEN,
    )
    try:
        server.start()
        front = Front(server, tmp_path_factory.mktemp("nginx"))
        yield front
        front.close()
    finally:
        server.close()


OF_THE_PAGE = {"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}


def test_the_page_submits_through_nginx_and_reads_the_output(front: Front) -> None:
    made = front.http.post("/robotni/api/worker/jobs", json=HELLO, headers=OF_THE_PAGE)
    assert made.status_code == 202, made.text
    job_url = made.headers["location"]
    assert job_url == f"/robotni/api/worker/jobs/{made.json()['jobId']}"
    job = eventually(lambda: ended(front.http.get(job_url)))
    assert job["output"] == "hello\n"
    part = front.http.get(f"{job_url}/output", headers={"Range": "bytes=2-"})
    assert (part.status_code, part.text) == (206, "llo\n")
    assert part.headers["content-range"] == "bytes 2-5/6"
    nothing = front.http.get(f"{job_url}/output", headers={"Range": "bytes=6-"})
    problem(nothing, 416)
    etag = front.http.get(job_url).headers["etag"]
    assert front.http.get(job_url, headers={"If-None-Match": etag}).status_code == 304


def ended(answer: httpx.Response) -> Any:
    job = answer.json()
    return job if job["finishedAt"] else None


def test_the_pages_load_their_files_through_nginx(front: Front) -> None:
    for start in ("/robotni", "/robotni/"):
        page = front.http.get(start, follow_redirects=True)
        assert (page.status_code, page.url.path) == (200, "/robotni/webdemo")
        assert page.url.host == "127.0.0.1"
    for path in ("/robotni/webdemo", "/robotni/docs"):
        page = front.http.get(path)
        found = re.findall(r'(?:src|href)="([^"#:]+)"', page.text)
        assert len(found) > 3
        for name in found:
            assert front.http.get(page.url.join(name)).status_code == 200, name
    document = front.http.get("/robotni/openapi.json").json()
    assert document["servers"] == [{"url": "/robotni"}]


def test_a_browser_runs_a_script_on_the_page_behind_nginx(front: Front) -> None:
    chromium = need("chromium", "chromium")
    faults: List[str] = []
    with sync_playwright() as playwright:
        args = [*ARGS, "--host-resolver-rules=MAP public.example 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=chromium, args=args)
        page = browser.new_context(ignore_https_errors=True).new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"https://public.example:{front.port}/robotni")
        page.get_by_label("Token", exact=True).fill(TOKEN)
        page.get_by_role("button", name="Use token").click()
        page.get_by_role("link", name="New job").first.click()
        page.get_by_label("Script", exact=True).fill("hello.py")
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator("#output")).to_contain_text("hello", timeout=20_000)
        assert page.url.startswith(f"https://public.example:{front.port}/robotni/webdemo#/jobs/")
        browser.close()
    assert faults == []


def test_links_of_a_list_lead_through_nginx(front: Front) -> None:
    for _ in range(2):
        front.http.post("/robotni/api/worker/jobs", json=HELLO, headers=OF_THE_PAGE)
    link = front.http.get("/robotni/api/worker/jobs?limit=1").headers["link"]
    assert front.http.get(link[1 : link.index(">")]).status_code == 200


@pytest.mark.parametrize(
    "headers, code",
    [
        ({"Origin": "https://evil.example"}, "origin_not_allowed"),
        ({"Origin": "https://public.example.evil.example"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin_not_allowed"),
        ({"Host": "evil.example", "Origin": "https://evil.example"}, "host_not_allowed"),
        ({"Host": "evil.example", "X-Forwarded-Host": "public.example"}, "host_not_allowed"),
    ],
)
def test_others_are_refused_behind_nginx_too(
    front: Front, headers: Dict[str, str], code: str
) -> None:
    answer = front.http.post("/robotni/api/worker/jobs", json=HELLO, headers=headers)
    problem(answer, 403, code)


def test_without_the_token_nothing_passes_nginx(front: Front) -> None:
    answer = front.http.get("/robotni/api/worker/jobs", headers={"Authorization": "Bearer no"})
    problem(answer, 401)


@pytest.mark.parametrize("size", [(1 << 20) + 1, 5 << 20])
def test_a_large_body_is_refused_as_robotni_refuses_it(front: Front, size: int) -> None:
    body = json.dumps("x" * size)
    headers = {**OF_THE_PAGE, "Content-Type": "application/json"}
    answer = front.http.post("/robotni/api/worker/jobs", content=body, headers=headers)
    assert problem_of_any_python(answer) == problem_of_any_python(
        front.server.http.post("/api/worker/jobs", content=body, headers=headers)
    )


def problem_of_any_python(answer: httpx.Response) -> Tuple[int, str, str, str]:
    """Less its title, which Python 3.13 words in another way."""
    body = answer.json()
    return answer.status_code, answer.headers["content-type"], body["code"], body["detail"]


# Docker


class Image:
    """The steps of the Dockerfile, run by a shell under a folder that stands for `/`.

    What is not tried: the base image, for which this Python stands, its user, and the engine.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"PATH": f"{folder}/base:/usr/bin:/bin", "HOME": str(folder)}
        self.env.update({n: v for n, v in os.environ.items() if n.startswith("PIP_")})
        self.workdir = folder
        self.user = "0"
        self.volumes: List[str] = []
        self.health: List[str] = []
        self.command: List[str] = []
        base = folder / "base"
        base.mkdir()
        # A script, since by a link Python would take this venv for the one it belongs to.
        python = getattr(sys, "_base_executable", sys.executable)
        (base / "python").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
        (base / "python").chmod(0o755)
        ignored = (ROOT / ".dockerignore").read_text().split()
        self._ignored = [pattern.rpartition("/")[2] for pattern in ignored]

    def here(self, text: str) -> str:
        return re.sub(r"(?<![\w.])(/(?:src|opt/robotni|app|data))\b", rf"{self.folder}\1", text)

    def build(self) -> None:
        text = (DEPLOY / "Dockerfile").read_text()
        text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            word, _, rest = line.strip().partition(" ")
            if word:
                getattr(self, f"do_{word.lower()}")(self.here(rest))

    def do_from(self, image: str) -> None:
        assert image.startswith("python:3.")

    def do_copy(self, paths: str) -> None:
        source, target = paths.split()
        shutil.copytree(ROOT / source, target, ignore=self._ignore)

    def _ignore(self, folder: str, names: List[str]) -> List[str]:
        return [n for n in names if any(fnmatchcase(n, p) for p in self._ignored)]

    def do_run(self, command: str) -> None:
        command = command.replace("chown 1000:1000 ", "test -d ")  # the user is not tried
        subprocess.run(["/bin/sh", "-euc", command], env=self.env, cwd=self.workdir, check=True)

    def do_env(self, pairs: str) -> None:
        self.env.update(dict(pair.split("=", 1) for pair in shlex.split(pairs)))

    def do_user(self, user: str) -> None:
        self.user = user

    def do_workdir(self, path: str) -> None:
        self.workdir = Path(path)

    def do_volume(self, path: str) -> None:
        self.volumes.append(path)

    def do_expose(self, port: str) -> None:
        assert port == "8000"

    def do_healthcheck(self, options: str) -> None:
        self.health = json.loads(options[options.index("[") :])

    def do_cmd(self, command: str) -> None:
        self.command = json.loads(command)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    if sys.version_info < (3, 9):
        pytest.skip("an image has the newest Python; its steps are run on the default one only")
    image = Image(tmp_path_factory.mktemp("root"))
    image.build()
    return image


def test_the_image_runs_as_nobody_in_particular_and_keeps_its_data(image: Image) -> None:
    assert image.user.split(":")[0] not in ("0", "root")
    assert image.volumes == [image.env["ROBOTNI_DATA_DIR"]]
    assert not (image.folder / "app/.robotni").exists()


def test_the_command_of_the_image_does_not_start_without_a_token(image: Image) -> None:
    ended = subprocess.run(
        image.command,
        cwd=image.workdir,
        env=image.env,
        executable=shutil.which(image.command[0], path=image.env["PATH"]),
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert "ROBOTNI_TOKEN" in ended.stderr


def test_the_command_of_the_image_serves_is_healthy_and_ends(image: Image) -> None:
    data = image.env["ROBOTNI_DATA_DIR"]
    server = Server(image.workdir, data_dir=data, token=TOKEN)
    server.environ = {**image.env, "ROBOTNI_TOKEN": TOKEN, "ROBOTNI_PORT": str(server.port)}
    program = str(shutil.which(image.command[0], path=image.env["PATH"]))
    assert program.startswith(str(image.folder))
    try:
        server.start(program, *image.command[1:])
        request = {"script": "cpu.py", "venv": ".venv", "args": ["--below", "100"]}
        job = server.wait_for(server.client.submit(request)["jobId"])
        assert job["status"] == "completed", job
        assert "25" in job["output"]
        health = [str(shutil.which("python", path=image.env["PATH"])), *image.health[1:]]
        assert subprocess.run(health, env=server.environ, check=False).returncode == 0
        assert server.process is not None
        server.process.terminate()
        assert server.process.wait(20) == 0
        dead = subprocess.run(health, env=server.environ, stderr=subprocess.DEVNULL, check=False)
        assert dead.returncode == 1
    finally:
        server.close()


def test_compose_keeps_the_data_and_asks_for_a_token() -> None:
    """Read as text: the tests need no YAML elsewhere."""
    lines = [line.strip() for line in (DEPLOY / "compose.yaml").read_text().splitlines()]
    assert "init: true" in lines
    assert "- data:/data" in lines
    assert '- "127.0.0.1:8000:8000"' in lines
    (token,) = [line for line in lines if line.startswith("ROBOTNI_TOKEN:")]
    assert "${ROBOTNI_TOKEN:?" in token
    (grace,) = [line for line in lines if line.startswith("stop_grace_period:")]
    assert int(grace.split()[1].rstrip("s")) > 10
