"""One group in this process: the order of its messages, proven message by message, and what is told of a gap."""

import asyncio
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Dict, Iterable, Optional, Protocol, Tuple

from apistar_ws.groups.background import Turn, start_task
from apistar_ws.groups.engine import Engine, Window
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.mailbox import Membership
from apistar_ws.groups.payload import Incoming, Position
from apistar_ws.groups.settings import GroupSettings

#: Members that get a message before others may have their turn.
MEMBERS_PER_TURN = 500
#: Messages that wait while the place of the group is read; what is beyond is read too.
MAX_PENDING = 10_000
WITHOUT_HISTORY = 'a process sends to it without history, where this one has some'


class Counters:
    """What has happened in this process so far."""

    def __init__(self) -> None:
        #: Messages that were queued for a member, dropped for want of room, and had to be read again after a gap.
        self.queued = self.dropped = self.recovered = 0
        #: Members that were told of a loss, and gaps of the engine.
        self.told = self.gaps = 0


class Reads(Protocol):
    """What is asked of whoever reads from the engine."""

    def read(self, name: str, since: Optional[int]) -> Awaitable[Window]:
        """Return the messages after an offset; the same for all who ask meanwhile."""


class GroupSequence:
    """One group in this process: gives each message to its members, in order, or tells them that it cannot.

    :param name: the name of the group.
    :param settings: its settings.
    :param engine: subscribes.
    :param reads: reads what is kept.
    :param counters: what is counted.
    :param tell: is told of a loss, for the log.
    """

    def __init__(
        self, name: str, settings: GroupSettings, engine: Engine, reads: Reads, counters: Counters,
        tell: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self.name = name
        self.settings = settings
        self._engine = engine
        self._reads = reads
        self._counters = counters
        self._tell = tell
        #: Joins and members that need it.
        self.users = 0
        self.members: Dict[Membership, None] = {}
        self._snapshot: Optional[Tuple[Membership, ...]] = None
        #: Where it stands: the last message that the members were given.
        self.epoch = ''
        self.offset = 0
        #: What comes while the place of the group is read; None once it is known.
        self._pending: Optional[Deque[Incoming]] = deque()
        self._catching: Optional['asyncio.Task[None]'] = None
        #: Whether the engine was away since its place was read.
        self._is_stale = False
        self._failure: Optional[GroupsUnavailable] = None
        self._gone: Optional['asyncio.Future[None]'] = None

    @property
    def position(self) -> Optional[Position]:
        """Where it stands, if it has a history."""
        return Position(self.epoch, self.offset) if self.settings.history else None

    # Members

    def add(self, member: Membership) -> None:
        """Give ``member`` whatever comes from now on."""
        self.members[member] = None
        self._snapshot = None
        member.on_detach = self.remove

    def remove(self, member: Membership) -> None:
        """Give ``member`` nothing more."""
        if self.members.pop(member, self) is None:
            self._snapshot = None

    # Messages

    async def take(self, message: Incoming) -> None:
        """Take the next message of the engine."""
        if self._pending is not None:
            self._pend(message)
        elif not self.settings.history:
            await self._give(message)
        elif message.position is None:
            self.lose(WITHOUT_HISTORY)
        elif message.position.offset == self.offset + 1 and message.position.epoch == self.epoch:
            self.offset += 1
            await self._give(message)
        else:
            self._pending = deque([message])
            self._catching = start_task(self._catch_up())

    def _pend(self, message: Incoming) -> None:
        assert self._pending is not None
        self._pending.append(message)
        if len(self._pending) > MAX_PENDING:
            self._pending.popleft()

    async def _give(self, message: Incoming) -> None:
        members = self._snapshot
        if members is None:
            members = self._snapshot = tuple(self.members)
        self._counters.queued += len(members)
        if len(members) <= MEMBERS_PER_TURN:
            return put(message, members)
        turn = Turn()
        for begin in range(0, len(members), MEMBERS_PER_TURN):
            put(message, members[begin : begin + MEMBERS_PER_TURN])
            if turn.is_over:
                await turn.give()

    def lose(self, reason: str) -> None:
        """Tell all members that messages were lost."""
        members = tuple(self.members)
        if members:
            self._counters.told += len(members)
            self._tell(self.name, reason)
        for member in members:
            member.lose(reason)

    # Its place

    async def ready(self) -> None:
        """Subscribe, if nobody has, and return when the place of the group is known.

        :raises GroupsUnavailable: if the engine is away.
        """
        while self._pending is not None:
            if self._catching is None:
                self._catching = start_task(self._open())
            elif self._engine.state == 'away':
                raise GroupsUnavailable()
            gone = self._gone = self._gone or asyncio.get_running_loop().create_future()
            await asyncio.wait({self._catching, gone}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise GroupsUnavailable(self._failure.detail)
            if gone.done():
                raise GroupsUnavailable()

    async def _open(self) -> None:
        self._failure = None
        try:
            await self._engine.subscribe(self.name)
            if self.settings.history:
                self._move(await self._reads.read(self.name, None))
        except GroupsUnavailable as exc:
            self._failure, self._catching = exc, None
            return
        await self._go_on()

    def gone_away(self) -> None:
        """Note that messages are missed from now on."""
        if self._gone is not None:
            self._gone.set_result(None)
            self._gone = None
        if self.settings.history:
            self._is_stale = True
            self._pending = deque() if self._pending is None else self._pending

    def returned(self) -> None:
        """Find out what was missed, now that the engine is back."""
        if self._pending is not None and self._catching is None and self.members:
            self._catching = start_task(self._catch_up())

    async def _catch_up(self) -> None:
        """Read what is missing, give it to the members or tell them, and go on with what came meanwhile."""
        await self._read_on()
        await self._go_on()

    async def _read_on(self) -> None:
        """Go on to where the engine is; what it cannot prove whole is told, once."""
        is_told = False
        while True:
            self._is_stale = False
            try:
                window = await self._reads.read(self.name, self.offset)
            except GroupsUnavailable:
                await self._engine.back()
                continue
            if window.epoch == self.epoch and window.messages is not None and window.top >= self.offset:
                return await self._give_read(window.messages)
            if not is_told:
                is_told = True
                self._counters.gaps += 1
                self.lose('the engine does not have them any more')
            if window.epoch == self.epoch:
                return self._move(window)
            # What was sent since is behind the loss.
            self.epoch, self.offset = window.epoch, 0

    async def _give_read(self, messages: Iterable[Incoming]) -> None:
        for message in messages:
            self._counters.recovered += 1
            self.offset += 1
            await self._give(message)

    async def _go_on(self) -> None:
        """Give the members what came while the place of the group was read."""
        while self._pending:
            message = self._pending.popleft()
            if not self.settings.history or self._is_next(message):
                await self._give(message)
            else:
                await self._clear_up(message)
            if self._is_stale:
                await self._read_on()
        if self._is_stale:
            return await self._catch_up()
        self._pending = self._catching = None

    def _is_next(self, message: Incoming) -> bool:
        if message.position != Position(self.epoch, self.offset + 1):
            return False
        self.offset += 1
        return True

    async def _clear_up(self, message: Incoming) -> None:
        """Deal with a message that does not follow: it was read already, is of a time before, or there is a gap."""
        where = message.position
        if where is None:
            return self.lose(WITHOUT_HISTORY)
        if where.epoch != self.epoch or where.offset > self.offset:
            await self._read_on()

    def _move(self, window: Window) -> None:
        self.epoch, self.offset = window.epoch, window.top


def put(message: Incoming, members: Any) -> None:
    """Queue ``message`` for ``members``: once for each of them, so every step counts."""
    size = message.size
    for member in members:
        queue = member.queue
        if len(queue) >= member.max_queue or member.size + size > member.max_size:
            member.overflow(message)
            continue
        if not queue:
            member.mailbox.wake(member)
        queue.append(message)
        member.size += size
