"""Receiving on behalf of a handler that does something else, so that a client's leaving is seen."""

import asyncio
import logging
from typing import Callable, List, Optional

from apistar_ws.codes import CloseCode
from apistar_ws.types import Message, Receive

logger = logging.getLogger('apistar_ws')

#: Bytes to hold for a handler that does not receive; beyond, the client is held back. As much as asyncio buffers.
HIGH_WATER = 64 * 1024
#: Seconds after the start in which the server passes on what it has already.
JUST_STARTED = 0.1
#: What one message costs beside its payload, in bytes: without it, empty messages would pile up.
MESSAGE_OVERHEAD = 64


class ReadAhead:
    """Receives from the server into a bounded buffer, until the handler receives again.

    The watch has one made for a handler that is not receiving; then the WebSocket takes its messages from there first.
    It begins with ``resume``.

    :param receive: the server's ``receive``.
    :param on_message: called with each message that comes; says whether it is kept.
    :param on_disconnect: called, once, with the ``websocket.disconnect`` message.
    :param last_taken: when the handler has received before, in the loop's time, or None if it has not.
    """

    def __init__(
        self,
        receive: Receive,
        on_message: Callable[[Message], bool],
        on_disconnect: Callable[[Message], None],
        last_taken: Optional[float] = None,
    ) -> None:
        self._receive = receive
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._last_taken = last_taken
        self._started = asyncio.get_running_loop().time()
        # A deque is 700 bytes when it is empty, and every handler that sleeps has one of these.
        self._messages: List[Message] = []
        self._size = 0
        self._waiter: Optional['asyncio.Future[None]'] = None
        self._filling = False
        self._over = False
        self._task: Optional['asyncio.Task[None]'] = None

    @property
    def drained(self) -> bool:
        """Whether nothing is buffered and nothing is being received: the handler may receive by itself."""
        return not self._filling and not self._messages

    @property
    def filling(self) -> bool:
        """Whether the client's next message, or its leaving, is being waited for."""
        return self._filling

    @property
    def full(self) -> bool:
        """Whether the client is being held back."""
        return self._size >= HIGH_WATER and not self._over

    @property
    def unread(self) -> int:
        """How many messages the handler has not taken."""
        return len(self._messages)

    @property
    def has_just_started(self) -> bool:
        """Whether what comes now may have come before, while the handler was busy with a message."""
        has_taken = self._last_taken is not None
        return has_taken and asyncio.get_running_loop().time() - self._started < JUST_STARTED

    def is_read(self, within: float) -> bool:
        """Return whether there are messages that the handler will take: it has taken one in so many seconds."""
        if not self._messages or self._last_taken is None:
            return False
        return asyncio.get_running_loop().time() - self._last_taken < within

    async def take(self) -> Optional[Message]:
        """Return the next message, waiting for it; None once it is for the handler to receive by itself."""
        while not self._messages and self._filling:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._messages:
            return None
        message = self._messages.pop(0)
        self._last_taken = asyncio.get_running_loop().time()
        self._size -= message_size(message)
        if self._messages:
            self.resume()
        return message

    def stop(self) -> None:
        """Receive no more, and forget what was not taken; the connection is over."""
        self._over = True
        self._messages.clear()
        # Where tasks start eagerly (Python 3.12), a first message may come before the task is known.
        if self._task is not None:  # pragma: no branch
            self._task.cancel()

    def resume(self) -> None:
        """Receive on, unless that is already being done, enough is buffered, or the client is gone."""
        if self._filling or self._over or self.full:
            return
        self._filling = True
        # Where tasks start eagerly, this one may have ended when it is assigned: what counts is the flag.
        self._task = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        try:
            while not self.full:
                message = await receive_or_disconnect(self._receive)
                if message['type'] == 'websocket.disconnect':
                    self._over = True
                    self._on_disconnect(message)
                    return
                if self._on_message(message):
                    self._messages.append(message)
                    self._size += message_size(message)
                if self._over or (self._messages and self._waiter is not None):
                    return
        finally:
            self._filling = False
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)


async def receive_or_disconnect(receive: Receive) -> Message:
    """Return the next message of the server; a server that raises has lost the connection."""
    try:
        return await receive()
    except Exception as exc:
        logger.debug('The server raised in receive: %r', exc)
        return {'type': 'websocket.disconnect', 'code': CloseCode.ABNORMAL_CLOSURE}


def message_size(message: Message) -> int:
    """Return the bytes that a received message is counted as."""
    return MESSAGE_OVERHEAD + byte_length(message.get('text') or message.get('bytes') or b'')


def byte_length(data: 'str | bytes') -> int:
    """Return the bytes that ``data`` takes in a message, text in UTF-8."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode('utf-8', 'replace'))
