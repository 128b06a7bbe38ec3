"""Receiving while the handler does not, to notice a disconnect."""

import asyncio
import logging
from typing import Callable, List, Optional

from apistar_ws.codes import CloseCode
from apistar_ws.types import Message, Receive

logger = logging.getLogger('apistar_ws')

#: Bytes to buffer before the client is held back; as many as asyncio buffers.
HIGH_WATER = 64 * 1024
#: Seconds after the start in which the server passes on messages that it has already.
_JUST_STARTED = 0.1
#: Bytes added to the payload of each message, so that empty messages are limited too.
_MESSAGE_OVERHEAD = 64


class ReadAhead:
    """A bounded buffer of messages received from the server while the handler does not receive.

    The watch starts it with ``resume``; then the WebSocket receives from the buffer first.

    :param receive: the server's ``receive``.
    :param on_message: called with each message; returns whether to keep it.
    :param on_disconnect: called once, with the ``websocket.disconnect`` message.
    """

    def __init__(
        self,
        receive: Receive,
        on_message: Callable[[Message], bool],
        on_disconnect: Callable[[Message], None],
    ) -> None:
        self._receive = receive
        self._on_message = on_message
        self._on_disconnect = on_disconnect
        self._started = asyncio.get_running_loop().time()
        # An empty deque takes 700 bytes, for every handler that is not receiving.
        self._messages: List[Message] = []
        self._size = 0
        self._waiter: Optional['asyncio.Future[None]'] = None
        self._is_filling = False
        self._is_over = False
        self._task: Optional['asyncio.Task[None]'] = None

    @property
    def is_drained(self) -> bool:
        """Whether nothing is buffered or being received, so that the handler can receive from the server."""
        return not self._is_filling and not self._messages

    @property
    def is_filling(self) -> bool:
        """Whether the next message or disconnect is awaited."""
        return self._is_filling

    @property
    def is_full(self) -> bool:
        """Whether the client is being held back."""
        return self._size >= HIGH_WATER and not self._is_over

    @property
    def unread(self) -> int:
        """The number of buffered messages."""
        return len(self._messages)

    @property
    def has_just_started(self) -> bool:
        """Whether an event now may have come earlier, while the handler was busy with a message."""
        return asyncio.get_running_loop().time() - self._started < _JUST_STARTED

    async def take(self) -> Optional[Message]:
        """Return the next message, waiting for it; None when the handler has to receive from the server."""
        while not self._messages and self._is_filling:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._messages:
            return None
        message = self._messages.pop(0)
        self._size -= _message_size(message)
        if self._messages:
            self.resume()
        return message

    def stop(self) -> None:
        """Stop receiving and clear the buffer, since the connection is over."""
        self._is_over = True
        self._messages.clear()
        # If tasks start eagerly (Python 3.12), the first message may arrive before the task is assigned.
        if self._task is not None:  # pragma: no branch
            self._task.cancel()

    def resume(self) -> None:
        """Continue receiving, unless it is already running, the buffer is full or the client has left."""
        if self._is_filling or self._is_over or self.is_full:
            return
        self._is_filling = True
        # If tasks start eagerly, it may have ended before it is assigned: only the flag counts.
        self._task = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        try:
            while not self.is_full:
                message = await _receive_or_disconnect(self._receive)
                if message['type'] == 'websocket.disconnect':
                    self._is_over = True
                    self._on_disconnect(message)
                    return
                if self._on_message(message):
                    self._messages.append(message)
                    self._size += _message_size(message)
                if self._is_over or (self._messages and self._waiter is not None):
                    return
        finally:
            self._is_filling = False
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)


async def _receive_or_disconnect(receive: Receive) -> Message:
    """Return the next message of the server; if the server raises, a disconnect."""
    try:
        return await receive()
    except Exception as exc:
        logger.debug('The server raised in receive: %r', exc)
        return {'type': 'websocket.disconnect', 'code': CloseCode.ABNORMAL_CLOSURE}


def _message_size(message: Message) -> int:
    """Return the bytes for which a received message counts in the buffer."""
    return _MESSAGE_OVERHEAD + byte_length(message.get('text') or message.get('bytes') or b'')


def byte_length(data: 'str | bytes') -> int:
    """Return the number of bytes of ``data``, text encoded as UTF-8."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode('utf-8', 'replace'))
