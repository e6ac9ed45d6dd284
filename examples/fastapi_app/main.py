"""A small app that runs reports: its users log in, and robotni stands behind the same login.

    APP_USERS=ada:secret uvicorn main:app
    curl -u ada:secret -X POST http://127.0.0.1:8000/reports/3
    curl -u ada:secret http://127.0.0.1:8000/reports/JOB_ID

The page of robotni is at /robotni/webdemo, its API at /robotni/api/worker/jobs.
"""

import base64
import binascii
import hmac
import os
from pathlib import Path
from typing import Any, Dict, Optional

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.datastructures import Headers

from robotni import create_app
from robotni.jobs.request import JobRequest

HERE = Path(__file__).parent
USERS = dict(pair.split(":", 1) for pair in os.environ.get("APP_USERS", "").split(",") if pair)
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
    """The same login around a mounted app, which dependencies do not reach.

    robotni's own token, where there is one, is shown by us: users need not know it.
    """

    def __init__(self, app: Any, token: Optional[str]) -> None:
        self.app = app
        self.token = token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if user_of(Headers(scope=scope).get("authorization", "")) is None:
                await self.refuse(send)
                return
            headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
            if self.token is not None:
                headers.append((b"authorization", f"Bearer {self.token}".encode()))
            scope = {**scope, "headers": headers}
        await self.app(scope, receive, send)

    async def refuse(self, send: Any) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in CHALLENGE.items()]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"log in\n"})


app = FastAPI(title="reports")
jobs = create_app(HERE, root_path="/robotni")
app.mount("/robotni", BehindLogin(jobs, os.environ.get("ROBOTNI_TOKEN")))


@app.post("/reports/{month}", status_code=202)
def start_report(month: int, user: str = Depends(login)) -> Dict[str, str]:
    """Submits without HTTP; the job survives a restart of this app."""
    request = JobRequest(script="report.py", venv=".venv", args=[str(month)], project=user)
    return {"id": jobs.state.engine.submit(request).job.job_id}


@app.get("/reports/{report_id}")
def get_report(report_id: str, user: str = Depends(login)) -> Dict[str, Any]:
    job = jobs.state.engine.get(report_id)
    return {"user": job.project, "status": job.status, "report": job.result}
