"""Facts about the end of one connection, and about the task of its handler."""

import asyncio
import contextlib
import logging
from typing import FrozenSet, Iterator, Optional

from apistar_ws.connection.asgi import send_close
from apistar_ws.interruption import Interruption, Task
from apistar_ws.types import Send

logger = logging.getLogger('apistar_ws')

#: Calls on a closed connection after which its handler is cancelled: it loops without noticing the end.
_MAX_CALLS_AFTER_END = 10
#: Seconds by which closing the resources of a message may postpone the cancellation of the handler.
MAX_POSTPONED = 1.8


class Ending:
    """Facts about one connection that most connections do not have before their end.

    :param owner: the task that the handler runs in.
    """

    # In the class, since most connections need none of them.

    #: The task that sends a close which the client does not read at once.
    closing: Optional['asyncio.Task[None]'] = None
    #: The exception that ``connect`` raises while the application is drained.
    denial: Optional[Exception] = None
    #: When the connection expires, in seconds since the epoch.
    expires_at: Optional[float] = None
    #: Until when the handler may receive messages from before a clean close, in the loop's time.
    delivers_until: Optional[float] = None
    #: Whether the handshake was answered with a denial.
    is_refused = False
    #: Whether the client broke a limit.
    broke_limit = False
    #: Whether the server has announced its shutdown; a client may send the same close code.
    server_stops = False
    #: Since when the client waits for the accept, where that may take long.
    waiting_since: Optional[float] = None
    #: The tasks that began to send while another was sending.
    other_senders: FrozenSet[Task] = frozenset()
    #: Whether messages that nothing receives are dropped, as those of a stream's client.
    discards = False
    _calls = 0
    _is_postponed = False
    _postponed_until: Optional[float] = None

    def __init__(self, owner: Task = None) -> None:
        #: The tasks that were cancelled because the connection is over.
        self.interruption = Interruption(owner)

    @property
    def is_looping(self) -> bool:
        """Whether the handler keeps calling on a closed connection."""
        return self._calls >= _MAX_CALLS_AFTER_END

    def note_call(self, call: str, connection: object) -> bool:
        """Count a call of the handler after the end; return whether the handler loops, and is cancelled."""
        owner = self.interruption.owner
        if owner is None or owner is not asyncio.current_task():
            return False
        self._calls += 1
        if self._calls % _MAX_CALLS_AFTER_END == 0:
            self.interruption.cancel_again()
        if self._calls == _MAX_CALLS_AFTER_END:
            logger.warning(
                '%r: the handler keeps calling %s on a closed connection and is cancelled: do not catch the exception '
                'that the call raises, or leave the loop.' % (connection, call)
            )
        return self.is_looping

    def close_in_background(self, send: Send, code: int, reason: str) -> None:
        """Send a close in a separate task, which the watch does not check, unless there is one already."""
        if self.closing is None:
            self.closing = asyncio.ensure_future(send_close(send, code, reason))

    async def wait_for_close(self, timeout: Optional[float]) -> None:
        """Wait until the client has read the close or is lost, for at most ``timeout`` seconds."""
        if self.closing is None:
            return
        # From now on a cancellation comes from the server.
        self.interruption.owner = asyncio.current_task()
        try:
            await asyncio.wait({self.closing}, timeout=timeout)
        finally:
            self.closing.cancel()

    @contextlib.contextmanager
    def postponed(self) -> Iterator[None]:
        """Postpone the cancellation of the handler until the block ends, for a limited time."""
        self._is_postponed = True
        try:
            yield
        finally:
            self._is_postponed, self._postponed_until = False, None

    @property
    def is_postponed(self) -> bool:
        """Whether the handler must not be cancelled yet; the time limit begins with the first access."""
        if not self._is_postponed:
            return False
        now = asyncio.get_running_loop().time()
        if self._postponed_until is None:
            self._postponed_until = now + MAX_POSTPONED
        return now < self._postponed_until


#: Shared by all connections without such facts, and by those whose handlers know of the end; never written to.
NO_ENDING, KNOWN_ENDING = Ending(), Ending()
KNOWN_ENDING.interruption.is_known = True
