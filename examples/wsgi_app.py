"""Calling robotni from a synchronous app by its client; this one is plain WSGI.

    python examples/wsgi_app.py        # serves http://127.0.0.1:8001, robotni runs at ROBOTNI_URL

A view of Django or Flask has the same two lines, and returns what it likes:

    def start(request):
        return JsonResponse({"id": jobs.submit(request_of_a_user(...))["jobId"]}, status=202)
"""

import json
import os
from typing import Any, Callable, Dict, Iterable, Tuple

from robotni.client import Client
from robotni.errors import RobotniError

# One for the process: its connections are kept, and threads may share it.
jobs = Client(
    os.environ.get("ROBOTNI_URL", "http://127.0.0.1:8000"), os.environ.get("ROBOTNI_TOKEN")
)


def app(environ: Dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    try:
        status, body = answer(environ["REQUEST_METHOD"], environ["PATH_INFO"])
    except RobotniError as error:
        status, body = "502 Bad Gateway", {"error": str(error)}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


def answer(method: str, path: str) -> Tuple[str, Any]:
    if method == "POST" and path == "/primes":
        job = jobs.submit({"script": "cpu.py", "venv": ".venv", "args": ["--below", "1000"]})
        return "202 Accepted", {"id": job["jobId"]}
    if method == "GET" and path.startswith("/primes/"):
        job = jobs.get(path[len("/primes/") :])
        return "200 OK", {"status": job["status"], "output": job["output"]}
    return "404 Not Found", {"error": "there is nothing here"}


if __name__ == "__main__":
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", 8001, app).serve_forever()
