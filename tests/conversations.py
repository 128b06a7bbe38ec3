"""Scripted conversations between a channel and a server: what is received, what was sent."""

import asyncio
from typing import Any, Dict, Iterable, List, Optional

from apistar_ws import WebSocket
from apistar_ws.testing.scope import handshake_scope

CONNECT = {'type': 'websocket.connect'}
ACCEPT = {'type': 'websocket.accept', 'subprotocol': None, 'headers': []}
CLOSE = {'type': 'websocket.close', 'code': 1000, 'reason': ''}


def text(data: str) -> Dict[str, Any]:
    return {'type': 'websocket.receive', 'text': data}


def binary(data: bytes) -> Dict[str, Any]:
    return {'type': 'websocket.receive', 'bytes': data}


def sent(data: str) -> Dict[str, Any]:
    return {'type': 'websocket.send', 'text': data}


def closed(code: int, reason: str = '') -> Dict[str, Any]:
    return {'type': 'websocket.close', 'code': code, 'reason': reason}


def disconnect(code: int = 1001, reason: str = '') -> Dict[str, Any]:
    return {'type': 'websocket.disconnect', 'code': code, 'reason': reason}


#: What uvicorn says when it goes down; a client's own close has a reason.
SHUTDOWN = {'type': 'websocket.disconnect', 'code': 1012}


def scope(url: str = '/', headers: Iterable[Any] = (), subprotocols: Iterable[str] = (), **changes: Any) -> Any:
    """Return the scope of a handshake, as the servers make it."""
    made = handshake_scope(url, list(subprotocols), list(headers))
    del made['raise_exceptions']
    return {**made, **changes}


class Peer:
    """Stands for the server: gives the scripted messages one by one, records what is sent.

    What follows the handshake comes once that is answered, however long it takes: a client waits. Once the script is
    over, ``receive`` waits until something is added.
    """

    #: Whether the client says the rest without waiting for the answer to its handshake.
    is_impatient = False

    def __init__(self, *script: Any) -> None:
        self.sent: List[Any] = []
        self._answered = asyncio.Event()
        self._answered.set()
        self._waiting: 'asyncio.Queue[Any]' = asyncio.Queue()
        self.add(*script)

    def add(self, *script: Any) -> None:
        for message in script:
            self._waiting.put_nowait(message)

    async def receive(self) -> Any:
        message = await self._waiting.get()
        await self._answered.wait()
        if message == CONNECT and not self.is_impatient:
            self._answered.clear()
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        self._answered.set()


class ImpatientPeer(Peer):
    """Stands for a server whose client says everything at once, or leaves before its handshake is answered."""

    is_impatient = True


class BlockedPeer(Peer):
    """Stands for a server whose client does not read: what is sent waits until ``unblock``."""

    def __init__(self, *script: Any) -> None:
        super().__init__(*script)
        self.unblock = asyncio.Event()
        self.error: Optional[Exception] = None

    async def send(self, message: Any) -> None:
        if message['type'] != 'websocket.accept':
            await self.unblock.wait()
        if self.error is not None:
            raise self.error
        await super().send(message)


def channel(
    peer: Peer,
    settings: Optional[Any] = None,
    receive: Optional[Any] = None,
    **options: Any,
) -> WebSocket:
    """Return a WebSocket to ``peer``, not connected yet."""
    more = {} if settings is None else {'settings': settings}
    return WebSocket(scope(**options), receive or peer.receive, peer.send, **more)


async def opened(peer: Peer, settings: Optional[Any] = None, **options: Any) -> WebSocket:
    """Return a WebSocket to ``peer`` that is open, with the handshake left out of what was sent."""
    ws = channel(peer, settings, receive=opening(peer), **options)
    await ws.connect()
    peer.sent.clear()
    return ws


def opening(peer: Peer) -> Any:
    """Return a ``receive`` that gives the handshake first, and then what ``peer`` gives."""
    handshake = iter([CONNECT])

    async def receive() -> Any:
        return next(handshake, None) or await peer.receive()

    return receive


async def run(app: Any, made_scope: Any, peer: Peer, timeout: float = 20.0) -> List[Any]:
    """Serve one connection and return what was sent."""
    await asyncio.wait_for(app(made_scope, peer.receive, peer.send), timeout)
    return peer.sent
