"""Messages on their way to the engine: one queue with an end, sent in order, at most once."""

import asyncio
import logging
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Generator, List, Optional, Sequence, Tuple

from apistar.exceptions import ConfigurationError

from apistar_ws.groups.background import start_task
from apistar_ws.groups.engine import Result
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.payload import Outgoing

logger = logging.getLogger('apistar_ws')

#: Messages that may wait for the engine, and bytes of them.
MAX_WAITING = 10_000
MAX_WAITING_SIZE = 64 * 1024 * 1024
#: Messages that are sent at once, and the bytes after which no further one is added.
BATCH = 200
BATCH_SIZE = 1024 * 1024

#: Seconds after a failure in which somebody may await it.
TIME_TO_AWAIT = 1.0

Publish = Callable[[Sequence[Outgoing]], Awaitable[List[Result]]]


class Sent:
    """The result of ``send``. Await it to be sure that the engine has the message.

    Awaited, it returns the position of the message, or None in a group without history.

    :raises GroupsUnavailable: when awaited, if the engine is away, or has not answered in time.
    """

    __slots__ = ('is_done', 'is_awaited', '_result', '_waiters')

    def __init__(self) -> None:
        self.is_done = self.is_awaited = False
        self._result: Result = None
        self._waiters: Optional[List['asyncio.Future[None]']] = None

    def settle(self, result: Result) -> None:
        """Note what has become of the message; called once."""
        self.is_done, self._result = True, result
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        self._waiters = None

    async def settled(self) -> None:
        """Return when it is known what has become of the message, whatever that is."""
        if not self.is_done:
            waiter: 'asyncio.Future[None]' = asyncio.get_running_loop().create_future()
            self._waiters = [*(self._waiters or ()), waiter]
            await waiter

    def __await__(self) -> Generator[Any, None, Optional[str]]:
        self.is_awaited = True
        yield from self.settled().__await__()
        if isinstance(self._result, GroupsUnavailable):
            # A new one, since each that is raised keeps a traceback.
            raise GroupsUnavailable(self._result.detail, self._result.maybe_sent)
        return None if self._result is None else str(self._result)


class Outbox:
    """Sends what is put into it, in order; its task lives while there is something to send.

    :param publish: sends a batch, and returns what has become of each.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._waiting: Deque[Tuple[Outgoing, Sent, float]] = deque()
        self._taken: List[Tuple[Outgoing, Sent, float]] = []
        self._size = 0
        self._task: Optional['asyncio.Task[None]'] = None
        self._is_told = False
        #: What has failed, and when it is checked whether somebody awaits it.
        self._unseen: List[Sent] = []
        self._timer: Optional[asyncio.TimerHandle] = None
        #: How many were accepted by the engine, were not, and of these nobody has asked for.
        self.published = self.failed = self.unseen = 0
        #: Seconds that the last one took.
        self.latency = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, outgoing: Outgoing) -> Sent:
        """Queue a message; where there is no room, it has failed at once."""
        sent = Sent()
        if len(self._waiting) >= MAX_WAITING or self._size + outgoing.size > MAX_WAITING_SIZE:
            self._settle(sent, GroupsUnavailable('Too many messages are waiting to be sent to groups'))
            return sent
        self._waiting.append((outgoing, sent, asyncio.get_running_loop().time()))
        self._size += outgoing.size
        if self._task is None:
            self._task = start_task(self._run())
        return sent

    async def flush(self) -> None:
        """Return when all that was put before has been sent, or has failed."""
        last = next(reversed(self._waiting or self._taken), None)
        if last is not None:
            await last[1].settled()

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._taken = self._take()
                await self._send(self._taken)
                self._taken = []
        finally:
            self._task = None
            # Cancelled, it is unknown what has become of these.
            self._fail(self._taken, GroupsUnavailable('The groups were stopped', maybe_sent=True))
            self._taken = []
            self._fail_waiting('The groups were stopped')

    def _take(self) -> List[Tuple[Outgoing, Sent, float]]:
        taken: List[Tuple[Outgoing, Sent, float]] = []
        size = 0
        while self._waiting and len(taken) < BATCH and size < BATCH_SIZE:
            item = self._waiting.popleft()
            size += item[0].size
            taken.append(item)
        self._size -= size
        return taken

    async def _send(self, taken: List[Tuple[Outgoing, Sent, float]]) -> None:
        try:
            results = await self._publish([outgoing for outgoing, _, _ in taken])
        except GroupsUnavailable as exc:
            self._fail(taken, exc)
            return self._fail_waiting(str(exc.detail))
        except ConfigurationError as exc:
            logger.error('Nothing can be sent to groups. %s', exc)
            return self._fail([*taken, *self._take_all()], GroupsUnavailable())
        now = asyncio.get_running_loop().time()
        for (_, sent, begun), result in zip(taken, results):
            self._settle(sent, result)
            self.latency = now - begun
        self._is_told = False

    def _fail(self, taken: List[Tuple[Outgoing, Sent, float]], exc: GroupsUnavailable) -> None:
        for _, sent, _ in taken:
            self._settle(sent, exc)

    def _fail_waiting(self, detail: str) -> None:
        """Fail what was not sent yet: it never will be."""
        self._fail(self._take_all(), GroupsUnavailable(detail))

    def _take_all(self) -> List[Tuple[Outgoing, Sent, float]]:
        waiting, self._waiting, self._size = list(self._waiting), deque(), 0
        return waiting

    def _settle(self, sent: Sent, result: Result) -> None:
        if isinstance(result, GroupsUnavailable):
            self.failed += 1
            self._unseen.append(sent)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(TIME_TO_AWAIT, self.note_unseen)
        else:
            self.published += 1
        sent.settle(result)

    def note_unseen(self) -> None:
        """Count the failures that are not awaited; an outage is one line of the log."""
        if self._timer is not None:
            self._timer.cancel()
        unseen = sum(not sent.is_awaited for sent in self._unseen)
        self._unseen, self._timer = [], None
        self.unseen += unseen
        if unseen and not self._is_told:
            self._is_told = True
            logger.warning('A message to a group was not sent, and nobody awaits it: await groups.send() to know.')
