"""The receivers of a group's messages, a client or a function, and the block of a join."""

import asyncio
import functools
import inspect
import logging
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Optional, Tuple

from apistar_ws.codes import CloseCode
from apistar_ws.connection.connection import Connection
from apistar_ws.connection.state import WebSocketState
from apistar_ws.connection.websocket import WebSocket, connection_of, send_data
from apistar_ws.exceptions import WebSocketDisconnect, WebSocketStateError
from apistar_ws.groups.background import start_task
from apistar_ws.groups.errors import POSITION_LOST, MessagesLost, PositionLost
from apistar_ws.interruption import Interruption
from apistar_ws.types import Data

logger = logging.getLogger('apistar_ws')

#: Seconds between two checks whether a handshake is accepted, until when messages wait.
ACCEPT_CHECK_INTERVAL = 0.01
#: What a client is told of lost messages, by close code.
REASONS = {
    CloseCode.TRY_AGAIN_LATER: 'Messages were lost: come back',
    POSITION_LOST: PositionLost.default_detail,
}

#: Closes in one process within a second.
CLOSES_PER_SECOND = 500
#: Seconds between two rounds of closes.
CLOSE_INTERVAL = 0.05

OnMessage = Callable[[Data], Awaitable[Any]]


class Block:
    """The block of one join: what a function of its member raises is raised in it.

    Made in the task that joins.

    :param name: the name of the group.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._interruption = Interruption(asyncio.current_task())
        self._failure: Optional[Exception] = None
        self._is_left = False

    def fail(self, exc: Exception) -> None:
        """Have ``exc`` raised in the block; where it is left already, the log has it."""
        if self._is_left or self._failure is not None:
            return logger.error('A member of the group %r has failed.', self._name, exc_info=exc)
        self._failure = exc
        self._interruption.cancel_again()

    async def left(self, exc: Optional[BaseException]) -> Optional[Exception]:
        """Let the task go its own way; return what is to be raised in place of ``exc``, which has ended the block."""
        self._is_left = True
        failure, owner = self._failure, self._interruption.owner
        if failure is None:
            return None
        if isinstance(exc, asyncio.CancelledError):
            is_raised = self._interruption.was_ours(owner)
        else:
            is_raised = exc is None
            await self._interruption.release()
        if is_raised:
            return failure
        logger.error('A member of the group %r has failed.', self._name, exc_info=failure)
        return None


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
                for _ in range(min(len(self._waiting), int(CLOSES_PER_SECOND * CLOSE_INTERVAL))):
                    self._close(*self._waiting.popleft())
                await asyncio.sleep(CLOSE_INTERVAL)
        finally:
            self._task = None

    def _close(self, connection: Connection, code: int, reason: str) -> None:
        if connection.state is WebSocketState.CONNECTING:
            # It is told what has happened once it is accepted.
            return self._waiting.append((connection, code, reason))
        self.closed += 1
        connection.abort(code, reason)


class ToWebSocket:
    """Gives messages to a client.

    :param ws: its WebSocket.
    :param closing: closes it where messages were lost.
    """

    def __init__(self, ws: WebSocket, closing: Closing) -> None:
        self._connection = connection_of(ws)
        self._closing = closing
        # Encoded already: what a route sends is checked by whoever sends it to the group.
        self.give = functools.partial(send_data, ws)

    async def is_open(self) -> None:
        """Wait for the accept: what comes before is held."""
        while self._connection.state is WebSocketState.CONNECTING:
            await asyncio.sleep(ACCEPT_CHECK_INTERVAL)

    def tell_lost(self, lost: MessagesLost) -> None:
        """Close the connection, when it is its turn; also if it has left the group: it has a hole all the same."""
        self._closing.close(self._connection, lost.close_code, REASONS[lost.close_code])

    def is_end(self, exc: Exception) -> bool:
        """Tell whether ``exc`` only says that the connection is over, which is not an error to anybody else."""
        is_over = self._connection.is_over
        return is_over and isinstance(exc, (WebSocketDisconnect, WebSocketStateError))

    def tell_cancelled(self) -> None:
        """Do nothing: the end of a connection cancels its sends."""


class ToFunction:
    """Gives messages to a function of the handler.

    :param function: the function.
    :param block: where what has gone wrong is raised.
    """

    def __init__(self, function: OnMessage, block: Block) -> None:
        self.give = function
        self._block = block

    async def is_open(self) -> None:
        """Return at once."""

    def tell_lost(self, lost: MessagesLost) -> None:
        """Raise ``lost`` in the block."""
        self._block.fail(lost)

    def is_end(self, exc: Exception) -> bool:
        """Return False: whatever a function raises is raised in the block."""
        return False

    def tell_cancelled(self) -> None:
        """Raise in the block that the function cannot go on."""
        self._block.fail(RuntimeError('The function of a member of a group awaits a task that was cancelled.'))


def require_async(function: Any, place: str) -> Any:
    """Return ``function`` if it can be awaited.

    :raises TypeError: naming the ``place`` that it was given for.
    """
    is_async = inspect.iscoroutinefunction(function)
    if not is_async and not (callable(function) and inspect.iscoroutinefunction(type(function).__call__)):
        raise TypeError('join() takes %s, not %r.' % (place, function))
    return function
