"""The rate at which a client sends, estimated in its favour.

The application knows when a message is read, not when it arrived: after a busy handler or a blocked event loop,
messages that the client sent over several seconds are read at once.
"""

import asyncio
from collections import deque
from typing import Deque, Optional

from apistar_ws.types import Message, Receive

#: Seconds by which a busy event loop may delay a message that is awaited.
LATENESS = 0.5
#: Seconds without a message after which a client has nothing left that was held back.
CAUGHT_UP = 1.0
#: Seconds that are credited at most: a client that is held back for longer is closed by ``backlog_timeout``.
MAX_CREDIT = 20.0
#: The key that marks a message which exceeds the limit in any case.
TOO_FAST = 'apistar_ws.too_fast'


class Pace:
    """A ``receive`` for routes with ``max_messages_per_second``, which marks a message that comes too fast.

    Each message is assumed to have arrived as early as possible: after the previous one, after the last time at which
    no message was waiting, and a second after the message that came ``limit`` messages before. The time in which the
    application did not receive is credited: the server may have held the client back, so that its messages come late.

    :param receive: the server's ``receive``.
    :param limit: messages in any one second.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._arrivals: Deque[float] = deque(maxlen=limit)
        self._last_empty: Optional[float] = None
        self._has_waited = False
        #: When the last call ended, and the seconds between calls that are credited.
        self._ended_at = _loop_time()
        self._held_back = 0.0

    async def receive(self) -> Message:
        """Return the server's next message, marked if it came too fast."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if self._ended_at is not None:
            self._held_back = min(self._held_back + begun - self._ended_at, MAX_CREDIT)
        # Runs only if no message is waiting.
        note_wait = loop.call_soon(self._note_wait)
        self._has_waited = False
        try:
            message = await self._receive()
        except BaseException:
            # A cancelled wait also shows that no message was waiting.
            if self._has_waited:
                self._last_empty = max(begun, loop.time() - LATENESS)
            raise
        finally:
            note_wait.cancel()
            self._ended_at = loop.time()
        if message['type'] != 'websocket.receive':
            return message
        now = self._ended_at
        if self._has_waited or self._last_empty is None:
            self._last_empty = max(begun, now - LATENESS)
        # While the application waits, the client can send.
        self._held_back = 0.0 if now - begun >= CAUGHT_UP else max(self._held_back - (now - begun), 0.0)
        is_too_fast = self._is_too_fast(self._last_empty - self._held_back, now)
        return {**message, TOO_FAST: True} if is_too_fast else message

    def _note_wait(self) -> None:
        self._has_waited = True

    def _is_too_fast(self, last_empty: float, now: float) -> bool:
        arrivals = self._arrivals
        earliest = max(last_empty, arrivals[-1]) if arrivals else last_empty
        if len(arrivals) == arrivals.maxlen:
            earliest = max(earliest, arrivals[0] + 1.0)
        arrivals.append(earliest)
        return earliest > now


def _loop_time() -> Optional[float]:
    """Return the time of the running event loop, or None outside of one, as where a test makes a WebSocket."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return None
