"""The worker: `huey_consumer huey_app.huey` from this folder."""

from robotni.bootstrap import build_huey

huey = build_huey()
