"""robotni: a job runner that a web app gets with one pip install."""

__version__ = "0.1.0"
