"""The Python client of the HTTP API, sync and async."""

from robotni.client.aio import AsyncClient, AsyncRemoteJob
from robotni.client.polling import DEFAULT_URL, PATIENCE
from robotni.client.sync import Client, RemoteJob

__all__ = ["DEFAULT_URL", "PATIENCE", "AsyncClient", "AsyncRemoteJob", "Client", "RemoteJob"]
