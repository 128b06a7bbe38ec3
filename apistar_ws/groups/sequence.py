"""One group in this process: the order of its messages, proven message by message, and what is told of a gap."""

import asyncio
from collections import deque
from typing import Any, Awaitable, Callable, Coroutine, Deque, Dict, Optional, Sequence, Tuple

from apistar_ws.groups.background import TimeSlice, start_task
from apistar_ws.groups.engine import Engine, Window
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.mailbox import Membership
from apistar_ws.groups.payload import Incoming, Position
from apistar_ws.groups.settings import GroupSettings

#: Members that get a message before others may have their turn.
MEMBERS_PER_TURN = 500
#: Messages that wait while the place of the group is read; what is beyond is read too.
MAX_PENDING = 10_000
#: Seconds that a message may take from one process to another.
ARRIVAL_TIMEOUT = 2.0
WITHOUT_HISTORY = 'a process sends to it without history, where this one has some'

Read = Callable[[str, Optional[int]], Awaitable[Window]]
#: Seconds in which those who come back after one event ask for the same.
GATHERING = 0.002


class Counters:
    """What has happened in this process so far."""

    def __init__(self) -> None:
        #: Messages that were queued for a member, dropped for want of room, and had to be read again after a gap.
        self.queued = self.dropped = self.recovered = 0
        #: Members that were told of a loss, and gaps of the engine.
        self.told = self.gaps = 0


class SharedReads:
    """Reads once for all who ask before the engine was asked; a later one may need a later answer.

    :param read: asks the engine.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._gathering: Dict[Tuple[str, Optional[int]], 'asyncio.Task[Window]'] = {}

    async def read(self, name: str, since: Optional[int]) -> Window:
        """Return what the engine keeps of a group after an offset.

        :raises GroupsUnavailable: if it is away.
        """
        key = name, since
        task = self._gathering.get(key)
        if task is None:
            task = self._gathering[key] = start_task(self._ask(key))
            # Where nobody waits any more, nobody is told.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Who asks may leave; the others still want the answer.
        await asyncio.wait({task})
        if task.cancelled():
            raise GroupsUnavailable('The groups were stopped')
        return task.result()

    async def _ask(self, key: Tuple[str, Optional[int]]) -> Window:
        try:
            await asyncio.sleep(GATHERING if key[1] is not None else 0)
        finally:
            del self._gathering[key]
        return await self._read(*key)


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
        self.members: Dict[Membership, None] = {}
        self._snapshot: Optional[Tuple[Membership, ...]] = None
        #: Where it stands: the last message that the members were given.
        self.epoch = ''
        self.offset = 0
        #: What comes while messages are read, or given to many; None where it can be given at once.
        self._pending: Optional[Deque[Incoming]] = None
        #: Who is at it then.
        self._working: Optional['asyncio.Task[None]'] = None
        #: Whether its place is known.
        self._is_placed = False
        #: Whether the engine was away since its place was read.
        self._is_stale = False
        #: Whether the members were told already of what the next epoch leaves out.
        self._is_told = False
        self._failure: Optional[Exception] = None
        #: Done when it stands somewhere else.
        self._moved: Optional['asyncio.Future[None]'] = None
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

    def take(self, message: Incoming) -> None:
        """Take the next message of the engine; where it has many members, they get it in a task, in several turns."""
        if self._pending is not None:
            self._pend(message)
        elif self.settings.history and message.position is None:
            self._lose_place()
        elif self.settings.history and not self._is_next(message):
            self._go(self._catch_up(), message)
        elif len(self.members) > MEMBERS_PER_TURN:
            self._go(self._spread(message, self._tuple()))
        else:
            self._counters.queued += len(self.members)
            put(message, self._tuple())

    def _go(self, work: Coroutine[Any, Any, None], *pending: Incoming) -> None:
        """Have what comes meanwhile wait for ``work``."""
        self._pending = deque(pending)
        self._working = start_task(work)

    def _pend(self, message: Incoming) -> None:
        assert self._pending is not None
        self._pending.append(message)
        if len(self._pending) > MAX_PENDING:
            self._pending.popleft()
            if not self.settings.history:
                self._counters.dropped += len(self.members)
                self._tell(self.name, 'more comes than its members can be given')

    async def _spread(self, message: Incoming, members: Tuple[Membership, ...]) -> None:
        await self._give(message, members)
        await self._go_on()

    async def _give(self, message: Incoming, members: Tuple[Membership, ...]) -> None:
        self._counters.queued += len(members)
        await self._in_turns(members, lambda some: put(message, some))

    async def _in_turns(self, members: Tuple[Membership, ...], do: Callable[[Sequence[Membership]], None]) -> None:
        """Do something for those who were members when it was decided, and give way to others in between."""
        turn = TimeSlice()
        for begin in range(0, len(members), MEMBERS_PER_TURN):
            do(members[begin : begin + MEMBERS_PER_TURN])
            if turn.is_over:
                await turn.give()

    def _tuple(self) -> Tuple[Membership, ...]:
        if self._snapshot is None:
            self._snapshot = tuple(self.members)
        return self._snapshot

    def lose(self, reason: str) -> None:
        """Tell all members that messages were lost."""
        members = tuple(self.members)
        if members:
            self._counters.told += len(members)
            self._tell(self.name, reason)
        for member in members:
            member.lose(reason)

    def _lose_place(self) -> None:
        """Tell all members of a message that has no place; what follows begins a new epoch, and is behind that loss."""
        self.lose(WITHOUT_HISTORY)
        self._is_told = True

    # Its place

    async def ready(self) -> None:
        """Subscribe, if nobody has, and return when the place of the group is known.

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
                self._move(await self._reads.read(self.name, None))
        except Exception as exc:
            self._failure, self._working = exc, None
            return
        self._is_placed = True
        await self._go_on()

    def close(self) -> None:
        """Do nothing more: nobody needs it."""
        if self._working is not None:
            self._working.cancel()

    async def reached(self, offset: int) -> bool:
        """Return when it has come so far, and whether that is so: others may have got messages a moment before."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ARRIVAL_TIMEOUT
        while self.offset < offset and loop.time() < deadline:
            self._moved = self._moved or loop.create_future()
            await asyncio.wait({self._moved}, timeout=deadline - loop.time())
        return self.offset >= offset

    def _note_move(self) -> None:
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    def on_disconnected(self) -> None:
        """Note that messages are missed from now on."""
        if self._gone is not None:
            self._gone.set_result(None)
            self._gone = None
        if self.settings.history:
            self._is_stale = True
            self._pending = deque() if self._pending is None else self._pending

    def on_reconnected(self) -> None:
        """Find out what was missed, now that the engine is back."""
        if self._is_stale and self._working is None and self.users:
            self._go(self._catch_up(), *(self._pending or ()))

    async def _catch_up(self) -> None:
        """Read what is missing, give it to the members or tell them, and go on with what came meanwhile."""
        await self._read_on()
        await self._go_on()

    async def _read_on(self) -> None:
        """Go on to where the engine is; what it cannot prove whole is told, once."""
        is_told, self._is_told = self._is_told, False
        while True:
            self._is_stale = False
            try:
                window = await self._reads.read(self.name, self.offset)
            except GroupsUnavailable:
                await self._engine.until_retry()
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

    async def _give_read(self, messages: Sequence[Incoming]) -> None:
        """Give what was read; it may be more than a queue has room for, and counts in none."""
        self._counters.recovered += len(messages)
        self._counters.queued += len(messages) * len(self.members)
        self.offset += len(messages)
        self._note_move()

        def recover(members: Sequence[Membership]) -> None:
            for member in members:
                member.recover(messages)

        if messages:
            await self._in_turns(self._tuple(), recover)

    async def _go_on(self) -> None:
        """Give the members what came while the place of the group was read."""
        while self._pending:
            message = self._pending.popleft()
            if not self.settings.history or self._is_next(message):
                await self._give(message, self._tuple())
            else:
                await self._clear_up(message)
            if self._is_stale:
                await self._read_on()
        if self._is_stale:
            return await self._catch_up()
        self._pending = self._working = None

    def _is_next(self, message: Incoming) -> bool:
        if message.position != Position(self.epoch, self.offset + 1):
            return False
        self.offset += 1
        if self._moved is not None:
            self._note_move()
        return True

    async def _clear_up(self, message: Incoming) -> None:
        """Deal with a message that does not follow: it was read already, is of a time before, or there is a gap."""
        where = message.position
        if where is None:
            return self._lose_place()
        if where.epoch != self.epoch or where.offset > self.offset:
            await self._read_on()

    def _move(self, window: Window) -> None:
        self.epoch, self.offset = window.epoch, window.top
        self._note_move()


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
