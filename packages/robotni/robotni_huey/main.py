"""The web application: `uvicorn main:app` from this folder."""

from robotni.bootstrap import build_app

app = build_app()
