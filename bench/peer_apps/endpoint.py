"""Robotni's submit and status, in front of a peer: FastAPI as it is usually written.

It runs in the peer's own environment: `uvicorn endpoint:app` with BENCH_APP=with_rq.
"""

import importlib
import os
from collections import deque
from typing import Any, Deque, Dict, List

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

peer = importlib.import_module(os.environ["BENCH_APP"])
folder = os.environ["BENCH_FOLDER"]
unfinished: Deque[Any] = deque()
counts = {"pending": 0, "running": 0, "completed": 0}
app = FastAPI()


class JobRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    script: str
    venv: str
    args: List[str] = []


@app.post("/api/worker/jobs", status_code=202)
def submit(request: JobRequest) -> Dict[str, Any]:
    script, python = os.path.join(folder, request.script), os.path.join(request.venv, "bin/python")
    if not os.path.isfile(script):
        raise ValueError(f"{script} does not exist")
    handle = peer.submit([os.path.join(folder, python), script, *request.args])
    unfinished.append(handle)
    return {"jobId": str(handle)}


@app.get("/api/worker/status")
def status() -> Dict[str, Any]:
    """The oldest jobs end first, so only those are asked for."""
    while unfinished and peer.is_done(unfinished[0]):
        unfinished.popleft()
        counts["completed"] += 1
    counts["pending"] = len(unfinished)
    return {"jobs": counts}
