"""Processes and members for the tests of groups."""

import asyncio
import contextlib
import uuid
from typing import Any, AsyncIterator, List, Optional

from apistar_ws import Groups, GroupsUnavailable, WebSocket
from apistar_ws.groups.hubs import Hubs
from tests.conversations import Peer, opened

#: Seconds that a test waits for a message; far more than it takes.
PATIENCE = 30.0


def new_prefix() -> str:
    """Return a prefix that no other test has in the same Redis."""
    return 'test-%s' % uuid.uuid4().hex[:12]


@contextlib.asynccontextmanager
async def process(url: Optional[str], **options: Any) -> AsyncIterator[Groups]:
    """Supply the groups of one process; several in one event loop do not know of each other."""
    hubs = Hubs(url, options, 'process')
    hub = hubs.current()
    hub.engine.is_held = True
    await hub.engine.ready()
    try:
        yield Groups(hub)
    finally:
        await hubs.stop()


async def tick(groups: Groups) -> None:
    """Have the engine do what it does every few seconds, and return when it has."""
    engine: Any = groups._hub.engine
    before = engine.ticks
    engine._tick_now.set()
    while engine.ticks == before:
        await asyncio.sleep(0.001)


async def sent(groups: Groups, name: str, data: str) -> Optional[str]:
    """Send as soon as the engine takes it; what was refused was never sent."""
    while True:
        try:
            return await groups.send(name, data)
        except GroupsUnavailable as exc:
            assert not exc.maybe_sent
            await asyncio.sleep(0.005)


class Inbox:
    """A member that is a function: keeps what it gets."""

    def __init__(self) -> None:
        self.messages: List[Any] = []
        self._more = asyncio.Event()

    async def __call__(self, message: Any) -> None:
        self.messages.append(message)
        self._more.set()

    async def until(self, *messages: Any) -> None:
        """Return when exactly these have come."""
        await self.count(len(messages))
        assert self.messages == list(messages)

    async def count(self, number: int, patience: float = PATIENCE) -> List[Any]:
        """Return what has come, when that are so many."""
        with_timeout = asyncio.get_running_loop().time() + patience
        while len(self.messages) < number:
            self._more.clear()
            left = with_timeout - asyncio.get_running_loop().time()
            await asyncio.wait_for(self._more.wait(), left)
        return self.messages


class Client(Peer):
    """A client whose WebSocket is open, and what it has got."""

    ws: WebSocket

    async def open(self, **options: Any) -> WebSocket:
        self.ws = await opened(self, **options)
        return self.ws

    async def until(self, *messages: Any) -> None:
        """Return when exactly these have been sent to it: text or bytes."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while len(self.sent) < len(messages) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
        assert self.got == list(messages)

    @property
    def got(self) -> List[Any]:
        return [message.get('text', message.get('bytes', message)) for message in self.sent]


async def client(**options: Any) -> Client:
    """Return a client that is connected."""
    made = Client()
    await made.open(**options)
    return made
