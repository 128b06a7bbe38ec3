"""Facts about the end of one connection, and about its handler's task then."""

import asyncio
import contextlib
import logging
from typing import Iterator, Optional

from apistar_ws.connection.asgi import send_close
from apistar_ws.interruption import Interruption, Task
from apistar_ws.types import Send

logger = logging.getLogger('apistar_ws')

#: Calls on a closed connection after which its handler is cancelled: it loops without noticing the end.
MAX_CALLS_AFTER_END = 10
#: Seconds for which closing the resources of a message postpones the cancellation of its handler.
MAX_POSTPONED = 1.8


class Ending:
    """Facts about the end of one connection: most connections have none of them until they end.

    :param owner: the task that the handler runs in.
    """

    __slots__ = (
        'interruption', 'closing', 'denial', 'expires_at', 'delivers_until', 'is_refused', 'broke_limit',
        'server_stops', '_calls', '_is_postponed', '_postponed_until',
    )  # fmt: skip

    def __init__(self, owner: Task = None) -> None:
        #: The tasks that were cancelled because the connection is over.
        self.interruption = Interruption(owner)
        #: The task that sends a close which the client does not read at once.
        self.closing: Optional['asyncio.Task[None]'] = None
        #: The exception that ``connect`` raises while the application is drained.
        self.denial: Optional[Exception] = None
        #: When the connection expires, in seconds since the epoch.
        self.expires_at: Optional[float] = None
        #: Until when the handler may receive what came before a clean close, in the loop's time.
        self.delivers_until: Optional[float] = None
        #: Whether the handshake was answered with a denial.
        self.is_refused = False
        #: Whether the client broke a limit.
        self.broke_limit = False
        #: Whether the server has said that it goes down; a client may send the same close code.
        self.server_stops = False
        self._calls = 0
        self._is_postponed = False
        self._postponed_until: Optional[float] = None

    @property
    def is_looping(self) -> bool:
        """Whether the handler keeps calling on a closed connection."""
        return self._calls >= MAX_CALLS_AFTER_END

    def note_call(self, call: str, connection: object) -> bool:
        """Count a call of the handler after the end, and cancel a handler that loops; return whether it does."""
        owner = self.interruption.owner
        if owner is None or owner is not asyncio.current_task():
            return False
        self._calls += 1
        if self._calls % MAX_CALLS_AFTER_END == 0:
            self.interruption.cancel_again()
        if self._calls == MAX_CALLS_AFTER_END:
            logger.warning(
                '%r: the handler keeps calling %s on a closed connection and is cancelled: do not catch the exception '
                'that the call raises, or leave the loop.' % (connection, call)
            )
        return self.is_looping

    def close_in_background(self, send: Send, code: int, reason: str) -> None:
        """Send a close in a task of its own, which the watch does not see, unless there is one already."""
        if self.closing is None:
            self.closing = asyncio.ensure_future(send_close(send, code, reason))

    async def wait_for_close(self, timeout: Optional[float]) -> None:
        """Wait until the client has read the close, or is lost, for so many seconds."""
        if self.closing is None:
            return
        # From here on the server may cancel the task again.
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
        """Whether the handler must not be cancelled yet; the time begins with the first question."""
        if not self._is_postponed:
            return False
        now = asyncio.get_running_loop().time()
        if self._postponed_until is None:
            self._postponed_until = now + MAX_POSTPONED
        return now < self._postponed_until


#: Shared by all connections without such facts; never written to.
NO_ENDING = Ending()
