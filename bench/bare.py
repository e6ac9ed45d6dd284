"""What a POST costs at least: FastAPI, one validated body, one durable SQLite transaction.

`python bare.py PORT FILE`. The yardstick for robotni's submits; nothing is ever run.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Order(BaseModel):
    script: str
    venv: str


def build(path: str) -> FastAPI:
    app = FastAPI()
    local, turn = threading.local(), threading.Lock()

    def connection() -> sqlite3.Connection:
        if not hasattr(local, "db"):
            local.db = sqlite3.connect(path, isolation_level=None, timeout=60)
            local.db.execute("PRAGMA journal_mode = wal")
            local.db.execute("PRAGMA synchronous = full")
            local.db.execute("CREATE TABLE IF NOT EXISTS job (id TEXT PRIMARY KEY, body TEXT)")
        return local.db

    @app.post("/jobs", status_code=202)
    def submit(order: Order) -> dict[str, Any]:
        job_id = uuid.uuid4().hex
        with turn:
            db = connection()
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO job VALUES (?, ?)", (job_id, json.dumps(order.model_dump())))
            db.execute("COMMIT")
        return {"jobId": job_id}

    return app


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[2]), port=int(sys.argv[1]), log_level="error", access_log=False)
