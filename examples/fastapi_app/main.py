"""A small app that runs reports: its users log in, and robotni stands behind the same login.

In this folder, with robotni and uvicorn installed, create the environment that reports run in, and
start the app:

    python3 -m venv .venv
    APP_USERS=ada:secret,bob:hidden uvicorn main:app

Then, in another terminal, with the id that the first command prints in the place of JOB_ID:

    curl -u bob:hidden -X POST http://127.0.0.1:8000/reports/3
    curl -u bob:hidden http://127.0.0.1:8000/reports/JOB_ID

A user sees only reports of their own. robotni itself shows the jobs of all users and runs any
script of this folder, so it is for the first of APP_USERS alone: its page is at /robotni/webdemo,
its API at /robotni/api/worker/jobs.
"""

import base64
import binascii
import hmac
import os
from pathlib import Path
from typing import Any, Dict, Optional

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.datastructures import Headers
from fastapi.responses import JSONResponse

from robotni import create_app
from robotni.errors import NotFound, RobotniError
from robotni.jobs.request import JobRequest

HERE = Path(__file__).parent
USERS = dict(pair.split(":", 1) for pair in os.environ.get("APP_USERS", "").split(",") if pair)
OPERATOR = next(iter(USERS), None)
CHALLENGE = {"WWW-Authenticate": 'Basic realm="reports"'}


def user_of(authorization: str) -> Optional[str]:
    """Who sent this header; None when it is nobody we know."""
    scheme, _, value = authorization.partition(" ")
    try:
        name, _, password = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    known = USERS.get(name, "")
    right = hmac.compare_digest(password.encode(), known.encode())
    return name if scheme.lower() == "basic" and known and right else None


def login(request: Request) -> str:
    """The login of this app's own routes."""
    user = user_of(request.headers.get("authorization", ""))
    if user is None:
        raise HTTPException(401, "log in", CHALLENGE)
    return user


class BehindLogin:
    """The same login around a mounted app, which dependencies do not reach; for the operator only.

    robotni's own token, where there is one, is shown by us: users need not know it.
    """

    def __init__(self, app: Any, token: Optional[str]) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            user = user_of(Headers(scope=scope).get("authorization", ""))
            if user is None or user != OPERATOR:
                await self.refuse(send, 401 if user is None else 403)
                return
            headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
            if self.token is not None:
                headers.append((b"authorization", f"Bearer {self.token}".encode()))
            scope = {**scope, "headers": headers}
        await self.app(scope, receive, send)

    async def refuse(self, send: Any, status: int) -> None:
        challenge = CHALLENGE if status == 401 else {}
        headers = [(name.lower().encode(), value.encode()) for name, value in challenge.items()]
        text = b"log in\n" if status == 401 else b"only the first of APP_USERS may see this\n"
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})


app = FastAPI(title="reports")
jobs = create_app(HERE, root_path="/robotni")
app.mount("/robotni", BehindLogin(jobs, os.environ.get("ROBOTNI_TOKEN")))


@app.exception_handler(RobotniError)
def failed(request: Request, error: RobotniError) -> JSONResponse:
    """What robotni says is wrong, as this app's own answer."""
    return JSONResponse({"detail": str(error)}, 404 if isinstance(error, NotFound) else 503)


@app.post("/reports/{month}", status_code=202)
def start_report(month: int, user: str = Depends(login)) -> Dict[str, str]:
    """Submits without HTTP; the job survives a restart of this app."""
    request = JobRequest(script="report.py", venv=".venv", args=[str(month)], project=user)
    return {"id": jobs.state.engine.submit(request).job.job_id}


@app.get("/reports/{report_id}")
def get_report(report_id: str, user: str = Depends(login)) -> Dict[str, Any]:
    try:
        job = jobs.state.engine.get(report_id)
    except NotFound:
        job = None
    if job is None or job.project != user:  # the answer tells no one which ids exist
        raise NotFound("there is no such report of yours; ids come from POST /reports/{month}")
    return {"user": job.project, "status": job.status, "report": job.result}
