"""The worker: `huey_consumer huey_app.huey` from this folder."""

from robotni.wiring import build_huey

huey = build_huey()
