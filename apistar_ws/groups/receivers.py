"""Who gets the messages of a group: the client of a WebSocket, or a function of the handler."""

import asyncio
import functools
import inspect
from typing import Any, Awaitable, Callable, Optional, Protocol

from apistar_ws.codes import CloseCode
from apistar_ws.ending import WebSocketState
from apistar_ws.exceptions import INTERNAL_ERROR, WebSocketDisconnect, WebSocketStateError
from apistar_ws.groups.closing import Closing
from apistar_ws.groups.errors import POSITION_LOST, MessagesLost, PositionLost
from apistar_ws.interruption import Interruption
from apistar_ws.types import Data
from apistar_ws.websocket import WebSocket

#: Seconds between two looks whether a handshake is accepted, which is what messages wait for.
INTERVAL = 0.01
#: What a client is told of lost messages, by close code.
REASONS = {
    CloseCode.TRY_AGAIN_LATER: 'Messages were lost: come back',
    POSITION_LOST: PositionLost.default_detail,
}

OnMessage = Callable[[Data], Awaitable[Any]]


class Connection(Protocol):
    """What is asked of a WebSocket, beside what a handler may use of it."""

    @property
    def _interruption(self) -> Interruption:
        """What has ended its handler."""

    def _abort(self, code: int, reason: str) -> None:
        """Close it, and end its handler."""


class ToWebSocket:
    """Gives messages to a client.

    :param ws: its WebSocket.
    :param closing: closes it where messages were lost.
    """

    def __init__(self, ws: WebSocket, closing: Closing) -> None:
        self._ws = ws
        self._closing = closing
        self._failure: Optional[Exception] = None
        # Encoded already: what a route sends is checked by whoever sends it to the group.
        self.give = functools.partial(WebSocket.send, ws)

    async def is_open(self) -> None:
        """Wait for the accept: what comes before is held."""
        while self._ws.state is WebSocketState.CONNECTING:
            await asyncio.sleep(INTERVAL)

    def tell_lost(self, lost: MessagesLost) -> None:
        """Close the connection, when it is its turn; also if it has left the group: it has a hole all the same."""
        self._closing.close(self._ws, lost.close_code, REASONS[lost.close_code])

    def tell_failed(self, exc: Exception) -> None:
        """End the connection, unless it has ended: that is not an error to anybody else."""
        if not isinstance(exc, (WebSocketDisconnect, WebSocketStateError)):
            self._failure = exc
            connection: Connection = self._ws
            connection._abort(*INTERNAL_ERROR)

    def tell_cancelled(self) -> None:
        """Do nothing: whoever ends the connection cancels what is being sent."""

    async def released(self, exc: Optional[BaseException]) -> Optional[Exception]:
        """Return what is to be raised in place of ``exc``, which has ended the body: what has failed before."""
        if self._failure is None or exc is None or isinstance(exc, WebSocketDisconnect):
            return self._failure
        connection: Connection = self._ws
        interruption = connection._interruption
        is_own = isinstance(exc, asyncio.CancelledError) and interruption.owner is asyncio.current_task()
        return self._failure if is_own and interruption.was_ours(interruption.owner) else None


class ToFunction:
    """Gives messages to a function of the handler, and raises in its body what has gone wrong.

    :param function: the function.
    """

    def __init__(self, function: OnMessage) -> None:
        self.give = function
        self._interruption = Interruption(asyncio.current_task())
        self.failure: Optional[Exception] = None
        self._is_released = False

    async def is_open(self) -> None:
        """Return at once."""

    def tell_lost(self, lost: MessagesLost) -> None:
        """Raise ``lost`` in the body."""
        self.tell_failed(lost)

    def tell_failed(self, exc: Exception) -> None:
        """Raise ``exc`` in the body."""
        if self.failure is None and not self._is_released:
            self.failure = exc
            self._interruption.cancel_again()

    def tell_cancelled(self) -> None:
        """Raise in the body that the function cannot go on."""
        self.tell_failed(RuntimeError('The function of a member of a group awaits a task that was cancelled.'))

    async def released(self, exc: Optional[BaseException]) -> Optional[Exception]:
        """Let the body go its own way; return what is to be raised in place of ``exc``, which has ended it."""
        self._is_released = True
        if self.failure is None:
            return None
        owner = self._interruption.owner
        if isinstance(exc, asyncio.CancelledError):
            return self.failure if self._interruption.was_ours(owner) else None
        await self._interruption.release()
        return self.failure if exc is None else None


def require_async(function: Any, place: str) -> Any:
    """Return ``function`` if it can be awaited.

    :raises TypeError: naming the ``place`` that it was given for.
    """
    is_async = inspect.iscoroutinefunction(function)
    if not is_async and not (callable(function) and inspect.iscoroutinefunction(type(function).__call__)):
        raise TypeError('join() takes %s, not %r.' % (place, function))
    return function
