"""How fast a client sends, in its favour where that cannot be known.

The application sees when a message is read, not when it arrived: a handler that was busy, or a loop that was
blocked, reads at once what took the client seconds to send.
"""

import asyncio
from collections import deque
from typing import Deque, Optional

from apistar_ws.types import Message, Receive

#: Seconds by which a message may be read late although somebody was waiting for it, since the loop was busy.
LATENESS = 0.5
#: The key that marks a message which no client within the limit can have sent.
TOO_FAST = 'apistar_ws.too_fast'


class Pace:
    """Receives on a route that sets ``max_messages_per_second``, and marks the message that breaks it.

    Each message is taken to have arrived as early as it can have: after the one before it, after the last moment at
    which nothing was there to be read, and a second after the message that is ``limit`` before it.

    :param receive: the server's ``receive``.
    :param limit: messages in any one second.
    """

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._arrivals: Deque[float] = deque(maxlen=limit)
        self._nothing_there: Optional[float] = None
        self._waited = False

    async def receive(self) -> Message:
        """Return the server's next message, marked if it came too fast."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        # Its turn comes only if the message is not there yet.
        waiting = loop.call_soon(self._note_wait)
        self._waited = False
        try:
            message = await self._receive()
        except BaseException:
            # A wait that was given up shows too that nothing was there.
            if self._waited:
                self._nothing_there = max(begun, loop.time() - LATENESS)
            raise
        finally:
            waiting.cancel()
        if message['type'] != 'websocket.receive':
            return message
        now = loop.time()
        if self._waited or self._nothing_there is None:
            self._nothing_there = max(begun, now - LATENESS)
        return {**message, TOO_FAST: True} if self._is_too_fast(self._nothing_there, now) else message

    def _note_wait(self) -> None:
        self._waited = True

    def _is_too_fast(self, since: float, now: float) -> bool:
        arrivals = self._arrivals
        earliest = max(since, arrivals[-1]) if arrivals else since
        if len(arrivals) == arrivals.maxlen:
            earliest = max(earliest, arrivals[0] + 1.0)
        arrivals.append(earliest)
        return earliest > now
