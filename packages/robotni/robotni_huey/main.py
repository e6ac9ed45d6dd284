"""The web application: `uvicorn main:app` from this folder."""

from robotni.wiring import build_app

app = build_app()
