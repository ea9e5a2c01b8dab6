"""The local server, and a client whose waits are listed and not waited for."""

import threading

import pytest
from served import Server

from kitsjax.download.client import Client


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def client(waits):
    return Client(timeout_s=5.0, tries=4, sleep=waits.append)
