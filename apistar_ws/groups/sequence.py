"""One group in this process: the order of its messages, proven message by message, and the handling of gaps."""

import asyncio
from collections import deque
from typing import Any, Callable, Coroutine, Deque, Optional, Sequence, Tuple

from apistar_ws.groups.audience import PASSED, Audience, Counters, put
from apistar_ws.groups.background import TimeSlice, start_task
from apistar_ws.groups.engine import Engine, Window
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.mailbox import Membership
from apistar_ws.groups.payload import Incoming, Position
from apistar_ws.groups.reads import SharedReads
from apistar_ws.groups.settings import GroupSettings

#: Members that get a message before others may have their turn.
MEMBERS_PER_TURN = 500
#: Messages that wait while the place of the group is read, and bytes of them; what is beyond is read too.
MAX_PENDING, MAX_PENDING_SIZE = 10_000, 16 * 1024 * 1024
WITHOUT_HISTORY = 'a process sends to it without history, where this one has some'


class Backlog:
    """Messages that wait while the place of a group is read, or while one is given to many; old ones may be dropped."""

    def __init__(self, *messages: Incoming) -> None:
        self._messages: Deque[Incoming] = deque(messages)
        self._size = sum(message.size for message in messages)

    def add(self, message: Incoming) -> bool:
        """Add a message, and return whether older ones were dropped for it."""
        self._messages.append(message)
        self._size += message.size
        is_full = False
        while len(self._messages) > MAX_PENDING or self._size > max(MAX_PENDING_SIZE, message.size):
            self.next()
            is_full = True
        return is_full

    def next(self) -> Optional[Incoming]:
        """Take the oldest message, if there is one."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._size -= message.size
        return message


class GroupSequence:
    """One group in this process: delivers each message to its members in order, or reports a loss.

    :param name: the name of the group.
    :param settings: its settings.
    :param engine: subscribes.
    :param reads: reads what is kept.
    :param counters: what is counted.
    :param tell: is told of a loss, for the log.
    """

    def __init__(
        self, name: str, settings: GroupSettings, engine: Engine, reads: SharedReads, counters: Counters,
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
        self.audience = Audience(name, settings, engine, reads, counters, self._recheck)
        #: What comes while messages are read, or given to many; None where it can be given at once.
        self._pending: Optional[Backlog] = None
        #: Who is at it then.
        self._working: Optional['asyncio.Task[None]'] = None
        #: Whether its place is known.
        self._is_placed = False
        #: Whether the engine was away since its place was read.
        self._is_stale = False
        #: Whether the members were told already of what the next epoch leaves out.
        self._is_told = False
        self._failure: Optional[Exception] = None
        self._gone: Optional['asyncio.Future[None]'] = None

    @property
    def position(self) -> Optional[Position]:
        """Where it stands, if it has a history."""
        return Position(self.audience.epoch, self.audience.offset) if self.settings.history else None

    # Messages

    def take(self, message: Incoming) -> None:
        """Take the next message of the engine; where it has many members, they get it in a task, in several turns."""
        members = self.audience.live
        if self._pending is not None:
            self._pend(message)
        elif self.settings.history and message.position is None:
            self._lose_place()
        elif self.settings.history and not self.audience.is_next(message):
            self._go(self._catch_up(), message)
        elif len(members) > MEMBERS_PER_TURN:
            self._go(self._spread(message, self.audience.all_live()))
        else:
            self._counters.queued += len(members)
            put(message, self.audience.all_live())

    def _go(self, work: Coroutine[Any, Any, None], *pending: Incoming) -> None:
        """Have what comes meanwhile wait for ``work``."""
        self._pending = self._pending or Backlog(*pending)
        self._working = start_task(work)

    def _pend(self, message: Incoming) -> None:
        assert self._pending is not None
        if self._pending.add(message) and not self.settings.history:
            self._counters.dropped += len(self.audience)
            self._tell(self.name, 'more comes than its members can be given')

    async def _spread(self, message: Incoming, members: Tuple[Membership, ...]) -> None:
        await self._give(message, members)
        await self._go_on()

    async def _give(self, message: Incoming, members: Tuple[Membership, ...]) -> None:
        self._counters.queued += len(members)
        await in_turns(members, lambda some: put(message, some))

    def lose(self, reason: str) -> None:
        """Tell all members that messages were lost."""
        if len(self.audience):
            self._tell(self.name, reason)
        self.audience.lose(reason)

    def _lose_place(self) -> None:
        """Tell all members of a message that has no place; what follows begins a new epoch, and is behind that loss."""
        self.lose(WITHOUT_HISTORY)
        self._is_told = True

    # Its place

    async def ready(self) -> None:
        """Subscribe, unless that was done, and return when the position of the group is known.

        :raises GroupsUnavailable: if the engine is away.
        :raises Exception: what else has kept it from that.
        """
        if self._is_placed and self._engine.state != 'open':
            raise GroupsUnavailable()
        while not self._is_placed:
            if self._working is None:
                self._go(self._open())
            elif self._engine.state == 'away':
                raise GroupsUnavailable()
            assert self._working is not None
            gone = self._gone = self._gone or asyncio.get_running_loop().create_future()
            await asyncio.wait({self._working, gone}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            if gone.done():
                raise GroupsUnavailable()

    async def _open(self) -> None:
        self._failure = None
        try:
            await self._engine.subscribe(self.name)
            if self.settings.history:
                place = await self._reads.place(self.name)
                self.audience.move(place.epoch, place.top)
        except Exception as exc:
            self._failure, self._working = exc, None
            return
        self._is_placed = True
        await self._go_on()

    def close(self) -> None:
        """Stop: the group is not used any more."""
        if self._working is not None:
            self._working.cancel()

    def on_disconnected(self) -> None:
        """Note that messages are missed from now on."""
        if self._gone is not None:
            self._gone.set_result(None)
            self._gone = None
        if self.settings.history:
            self._is_stale = True
            self._pending = self._pending or Backlog()

    def on_reconnected(self) -> Optional['asyncio.Task[None]']:
        """Find out what was missed, now that the engine is back; return the task that does."""
        if self._is_stale and self._working is None and self.users:
            self._go(self._catch_up())
        return self._working

    def _recheck(self) -> None:
        """Find out where the engine stands: what a member has read is not of this epoch."""
        self._is_stale = True
        self.on_reconnected()

    async def _catch_up(self) -> None:
        """Find the missing messages, let the members read them or report a loss, and continue."""
        await self._read_on()
        await self._go_on()

    async def _read_on(self) -> None:
        """Continue at the position of the engine; a gap that cannot be filled is reported once."""
        place = await self._place()
        audience, is_told, self._is_told = self.audience, self._is_told, False
        if place.epoch != audience.epoch:
            self._lose_once(is_told)
            is_told = True
            # What was sent since is behind the loss.
            audience.move(place.epoch, 0)
        if place.first > audience.offset + 1 or place.top < audience.offset:
            self._lose_once(is_told)
            audience.move(place.epoch, place.top)
        audience.fall_behind(place.top)
        await in_turns(tuple(audience.behind), wake)

    async def _place(self) -> Window:
        while True:
            self._is_stale = False
            try:
                return await self._reads.place(self.name)
            except GroupsUnavailable:
                await self._engine.until_retry()

    def _lose_once(self, is_told: bool) -> None:
        if not is_told:
            self._counters.gaps += 1
            self.lose(PASSED)

    async def _go_on(self) -> None:
        """Give the members what came while the place of the group was read."""
        assert self._pending is not None
        while (message := self._pending.next()) is not None or self._is_stale:
            if self._is_stale:
                await self._read_on()
            if message is None:
                continue
            if not self.settings.history or self.audience.is_next(message):
                await self._give(message, self.audience.all_live())
            else:
                await self._clear_up(message)
        self._pending = self._working = None

    async def _clear_up(self, message: Incoming) -> None:
        """Deal with a message that does not follow: it was read already, is of a time before, or there is a gap."""
        where = message.position
        if where is None:
            return self._lose_place()
        if where.epoch != self.audience.epoch or where.offset > self.audience.offset:
            await self._read_on()


async def in_turns(members: Tuple[Membership, ...], do: Callable[[Sequence[Membership]], None]) -> None:
    """Do something for those who were members when it was decided, and give way to others in between."""
    turn = TimeSlice()
    for begin in range(0, len(members), MEMBERS_PER_TURN):
        do(members[begin : begin + MEMBERS_PER_TURN])
        if turn.is_over:
            await turn.give()


def wake(members: Sequence[Membership]) -> None:
    """Have what is missing read for ``members``."""
    for member in members:
        member.mailbox.wake(member)
