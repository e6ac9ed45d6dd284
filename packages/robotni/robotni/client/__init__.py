"""The Python client of the HTTP API: `Client` blocks, `AsyncClient` is for asyncio."""

from robotni.client.aio import AsyncClient, AsyncRemoteJob
from robotni.client.sync import Client, RemoteJob
from robotni.client.transport import DEFAULT_URL, RETRY_TIMEOUT

__all__ = ["DEFAULT_URL", "RETRY_TIMEOUT", "AsyncClient", "AsyncRemoteJob", "Client", "RemoteJob"]
