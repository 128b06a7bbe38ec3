"""Tests in process, without a server: API Star's ``TestClient`` with WebSockets, and a time limit on every wait."""

from apistar_ws.testing.client import BlockingConnection, TestClient
from apistar_ws.testing.connection import Connection, connect
from apistar_ws.testing.errors import ConnectionClosed, HandshakeDenied, TasksLeft, WaitTimeout
from apistar_ws.testing.starting import lifespan

__all__ = [
    'BlockingConnection',
    'Connection',
    'ConnectionClosed',
    'HandshakeDenied',
    'TasksLeft',
    'TestClient',
    'WaitTimeout',
    'connect',
    'lifespan',
]
