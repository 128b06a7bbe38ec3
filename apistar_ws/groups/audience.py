"""The members of one group in this process: those that get what comes, and those that are behind and read pages."""

import asyncio
import logging
from typing import Any, Callable, Dict, List, Optional, Tuple

from apistar_ws.groups.background import start_task
from apistar_ws.groups.engine import Engine
from apistar_ws.groups.errors import GroupsUnavailable, PositionLost
from apistar_ws.groups.mailbox import Membership
from apistar_ws.groups.payload import Incoming, Position
from apistar_ws.groups.reads import SharedReads
from apistar_ws.groups.settings import GroupSettings

logger = logging.getLogger('apistar_ws')


class OtherEpoch(PositionLost):
    """Raised where the engine has another epoch than the members."""


PASSED = 'the engine does not have them any more'
#: Where the members of a page belong: an epoch and an offset.
Cursor = Tuple[str, int]


class Counters:
    """The counters of this process."""

    def __init__(self) -> None:
        #: Messages that were queued for a member, dropped for want of room, and had to be read again after a gap.
        self.queued = self.dropped = self.recovered = 0
        #: Members that were told of a loss, and gaps of the engine.
        self.told = self.gaps = 0


class SharedWindow:
    """Messages of one group that members are behind with: each is held once for all members, up to a number of bytes.

    :param max_size: the bytes.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._messages: Dict[int, Incoming] = {}
        self.size = 0

    def get(self, offset: int) -> Optional[Incoming]:
        """Return the message at an offset, if it is held."""
        return self._messages.get(offset)

    def add(self, message: Incoming) -> None:
        """Hold a message that has just come, where there is room."""
        if self.size + message.size <= self._max_size:
            self._hold(message)

    def add_page(self, messages: List[Incoming]) -> None:
        """Hold messages that were read, in place of older ones; of a page with too many bytes the first ones."""
        added = 0
        for message in messages:
            added += message.size
            if added > self._max_size:
                return
            while self._messages and self.size + message.size > self._max_size:
                self.size -= self._messages.pop(next(iter(self._messages))).size
            self._hold(message)

    def _hold(self, message: Incoming) -> None:
        where = message.position
        if where is not None and where.offset not in self._messages:
            self._messages[where.offset] = message
            self.size += message.size

    def clear(self) -> None:
        """Hold nothing."""
        self._messages.clear()
        self.size = 0


class Audience:
    """The members of one group in this process, and where they stand.

    :param name: of the group.
    :param settings: of the group.
    :param engine: says when it is worth another try.
    :param reads: reads pages.
    :param counters: what is counted.
    :param on_other_epoch: called when the engine has another epoch than the members.
    """

    def __init__(
        self, name: str, settings: GroupSettings, engine: Engine, reads: SharedReads, counters: Counters,
        on_other_epoch: Callable[[], None],
    ) -> None:  # fmt: skip
        self._name = name
        self._engine = engine
        self._reads = reads
        self._counters = counters
        self._on_other_epoch = on_other_epoch
        #: The last message that the members were given, or have to read.
        self.epoch = ''
        self.offset = 0
        #: Who gets what comes, and who reads what was missed, by a cursor.
        self.live: Dict[Membership, None] = {}
        self.behind: Dict[Membership, None] = {}
        self._snapshot: Optional[Tuple[Membership, ...]] = None
        self._window = SharedWindow(settings.max_queue_size)
        #: Pages that are being read for ``load``, and who waits for which page.
        self._loading: Dict[Cursor, 'asyncio.Task[List[Incoming]]'] = {}
        self._waiting: Dict[Cursor, List[Membership]] = {}
        self._moved: Optional['asyncio.Future[None]'] = None

    # Who is in it

    def add(self, member: Membership, cursor: Optional[int] = None) -> None:
        """Give ``member`` what comes from now on, and before that all after an offset."""
        member.on_detach, member.next_missed = self.remove, self.next_missed
        member.cursor = cursor
        if cursor is None or cursor == self.offset:
            self._go_live(member)
        else:
            self.behind[member] = None

    def remove(self, member: Membership) -> None:
        """Give ``member`` nothing more."""
        if self.live.pop(member, self) is None:
            self._snapshot = None
        elif self.behind.pop(member, self) is None:
            self._forget()

    def _go_live(self, member: Membership) -> None:
        member.cursor = None
        self.live[member] = self._snapshot = None
        if self.behind.pop(member, self) is None:
            self._forget()

    def _forget(self) -> None:
        if not self.behind:
            self._window.clear()

    def all_live(self) -> Tuple[Membership, ...]:
        """Return who gets what comes, as they are now."""
        if self._snapshot is None:
            self._snapshot = tuple(self.live)
        return self._snapshot

    def __len__(self) -> int:
        return len(self.live) + len(self.behind)

    # Where it stands

    def is_next(self, message: Incoming) -> bool:
        """Return whether ``message`` follows; then it is where the members stand."""
        if message.position != Position(self.epoch, self.offset + 1):
            return False
        self.offset += 1
        if self.behind:
            self._window.add(message)
        if self._moved is not None:
            self._note_move()
        return True

    def move(self, epoch: str, offset: int) -> None:
        """Let the members stand elsewhere, behind a loss."""
        if epoch != self.epoch:
            self._window.clear()
        self.epoch, self.offset = epoch, offset
        self._note_move()

    def fall_behind(self, top: int) -> None:
        """Let the members read what they have missed up to ``top``."""
        missed = top - self.offset
        self._counters.recovered += missed
        self._counters.queued += missed * len(self.live)
        if missed:
            for member in self.live:
                member.cursor = self.offset
            self.behind.update(self.live)
            self.live, self._snapshot = {}, None
            self.move(self.epoch, top)

    def _note_move(self) -> None:
        if self._moved is not None:
            self._moved.set_result(None)
            self._moved = None

    async def reached(self, offset: int, timeout: float) -> bool:
        """Return when the members stand at an offset, and whether that is so in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self.offset < offset and loop.time() < deadline:
            self._moved = self._moved or loop.create_future()
            await asyncio.wait({self._moved}, timeout=deadline - loop.time())
        return self.offset >= offset

    def lose(self, reason: str) -> None:
        """Notify all members that messages were lost; who stays goes on from here."""
        for member in list(self.behind):
            self._go_live(member)
        self._counters.told += len(self.live)
        for member in self.all_live():
            member.lose(reason)

    # What was missed

    def next_missed(self, member: Membership) -> Optional[Incoming]:
        """Return the next message of a member that is behind.

        None where there is none: it gets what comes from now on; or where it is being read: that wakes the member.
        """
        cursor, joined = member.cursor, member.joined
        assert cursor is not None
        if member.marker is not None and joined is not None and cursor >= joined.offset:
            marker, member.marker = member.marker, None
            return marker
        if cursor >= self.offset:
            self._go_live(member)
            return None
        message = self._window.get(cursor + 1)
        if message is None:
            self._await_page(member, cursor)
            return None
        member.cursor = cursor + 1
        return message

    def _await_page(self, member: Membership, since: int) -> None:
        waiting = self._waiting.get((self.epoch, since))
        if waiting is None:
            self._waiting[self.epoch, since] = [member]
            start_task(self._read_page((self.epoch, since)))
        elif member not in waiting:
            waiting.append(member)

    async def _read_page(self, cursor: Cursor) -> None:
        """Read a page for those who wait for it; it takes as long as the engine is away."""
        messages: List[Incoming] = []
        while not messages and self.behind and cursor[0] == self.epoch:
            try:
                messages = await self.load(*cursor)
            except GroupsUnavailable:
                await self._engine.until_retry()
            except OtherEpoch:
                # That concerns all members, and not only these.
                del self._waiting[cursor]
                return self._on_other_epoch()
            except Exception as exc:
                if not isinstance(exc, PositionLost):
                    logger.exception('The group %r cannot be read.', self._name)
                break
        for member in self._waiting.pop(cursor):
            if member in self.behind and (self.epoch, member.cursor) == cursor:
                self._give_page(member, messages)

    def _give_page(self, member: Membership, messages: List[Incoming]) -> None:
        if messages:
            # The first one at once: others may take its place in the window before it is the member's turn.
            member.receive_missed(messages[0])
        else:
            self._go_live(member)
            self._counters.told += 1
            member.lose(PASSED)

    async def load(self, epoch: str, since: int) -> List[Incoming]:
        """Hold the first messages after an offset, and return them.

        :raises PositionLost: if they are not whole any more.
        :raises GroupsUnavailable: if the engine is away.
        """
        held = self._window.get(since + 1) if epoch == self.epoch else None
        if held is not None:
            return [held]
        task = self._loading.get((epoch, since))
        if task is None:
            task = self._loading[epoch, since] = start_task(self._load(epoch, since))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({task})
        return task.result()

    async def _load(self, epoch: str, since: int) -> List[Incoming]:
        try:
            page = await self._reads.page(self._name, since)
        finally:
            del self._loading[epoch, since]
        if page.epoch != epoch:
            raise OtherEpoch()
        if not page.messages:
            raise PositionLost()
        if epoch == self.epoch and self.behind:
            self._window.add_page(page.messages)
        return page.messages


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
