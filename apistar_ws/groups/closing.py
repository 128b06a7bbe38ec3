"""How members are sent away whose messages were lost: not all in one instant, since all of them come back."""

import asyncio
from collections import deque
from typing import Deque, Optional, Tuple

from apistar_ws.connection.connection import Connection
from apistar_ws.connection.state import WebSocketState
from apistar_ws.groups.background import start_task

#: Closes in one process within a second.
CLOSES_PER_SECOND = 500
#: Seconds between two rounds of closes.
INTERVAL = 0.05


class Closing:
    """Closes connections at a bounded rate; its task lives while there are some."""

    def __init__(self) -> None:
        self._waiting: Deque[Tuple[Connection, int, str]] = deque()
        self._task: Optional['asyncio.Task[None]'] = None
        #: How many it has closed.
        self.closed = 0

    def close(self, connection: Connection, code: int, reason: str) -> None:
        """Close ``connection`` when it is its turn."""
        self._waiting.append((connection, code, reason))
        if self._task is None:
            self._task = start_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                for _ in range(min(len(self._waiting), int(CLOSES_PER_SECOND * INTERVAL))):
                    self._close(*self._waiting.popleft())
                await asyncio.sleep(INTERVAL)
        finally:
            self._task = None

    def _close(self, connection: Connection, code: int, reason: str) -> None:
        if connection.state is WebSocketState.CONNECTING:
            # It is told what has happened once it is accepted.
            return self._waiting.append((connection, code, reason))
        self.closed += 1
        connection.abort(code, reason)
