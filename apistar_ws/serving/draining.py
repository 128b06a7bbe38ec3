"""How an application sends its clients away, before its process ends."""

import asyncio
import logging
import math
from typing import List, Optional, Sequence

from apistar_ws.codes import CloseCode
from apistar_ws.connection.connection import Connection
from apistar_ws.connection.state import WebSocketState
from apistar_ws.serving.endpoint import Endpoint

logger = logging.getLogger('apistar_ws')

#: Seconds that handlers have to end after the last close.
LINGER = 5.0
#: Seconds between two looks at whether they have.
INTERVAL = 0.05
#: Connections that are closed in one turn of the event loop, however little time there is.
CLOSES_PER_TURN = 100


class Draining:
    """Sends the clients of one application away, once.

    :param endpoints: its routes.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._task: Optional['asyncio.Task[None]'] = None

    async def drain(self, seconds: float) -> None:
        """Refuse handshakes, and close what is open within so many seconds; a second call waits for the first.

        :raises ValueError: for a number below 0, or without an end.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError('drain(%r): give the seconds in which the connections are closed, 0 or more.' % seconds)
        if self._task is None:
            self._task = asyncio.ensure_future(self._drain(seconds))
        await asyncio.shield(self._task)

    async def _drain(self, seconds: float) -> None:
        for endpoint in self._endpoints:
            endpoint.drain()
        await close_evenly(self._connections(), seconds)
        now = asyncio.get_running_loop().time
        deadline = now() + LINGER
        while self._connections() and now() < deadline:
            await asyncio.sleep(INTERVAL)
        lingering = self._connections()
        if lingering:
            logger.warning(
                '%d handlers go on %g seconds after the drain, the one of %r among them.',
                len(lingering), LINGER, lingering[0],
            )  # fmt: skip

    def _connections(self) -> List[Connection]:
        return [connection for endpoint in self._endpoints for connection in endpoint.connections]


async def close_evenly(connections: Sequence[Connection], seconds: float) -> None:
    """Close ``connections``, spread evenly over so many seconds."""
    now = asyncio.get_running_loop().time
    begun = now()
    for number, connection in enumerate(connections):
        wait = begun + seconds * number / len(connections) - now()
        if wait > 0 or number % CLOSES_PER_TURN == 0:
            await asyncio.sleep(max(wait, 0))
        if connection.state is WebSocketState.OPEN:
            connection.abort(CloseCode.SERVICE_RESTART, 'The server restarts')
