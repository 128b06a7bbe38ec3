"""The engine of one process: the same contract, without anything outside."""

import asyncio
import heapq
import itertools
from collections import deque
from typing import Deque, Dict, Iterable, List, Optional, Sequence, Tuple

from apistar_ws.groups.background import TimeSlice
from apistar_ws.groups.engine import PAGE_SIZE, Member, Receiver, Result, Window, contiguous
from apistar_ws.groups.payload import Incoming, Outgoing, Position, decode, new_id
from apistar_ws.groups.settings import GroupSettings, Namespaces

#: Seconds that the place of a group is known for longer than its messages.
KEPT_LONGER = 3600.0


class Record:
    """The place of one group, and its last messages."""

    __slots__ = ('epoch', 'top', 'messages', 'history_until', 'kept_until')

    def __init__(self) -> None:
        self.epoch = new_id()
        self.top = 0
        self.messages: Deque[bytes] = deque()
        self.history_until = self.kept_until = 0.0

    def keep(self, settings: GroupSettings, now: float) -> None:
        """Keep the place for its time; without a message nobody has a position that would be lost with it."""
        self.kept_until = now + settings.history_ttl + (KEPT_LONGER if self.top else 0.0)

    def add(self, outgoing: Outgoing, settings: GroupSettings, now: float) -> Tuple[Position, bytes]:
        """Place a message, and return its payload."""
        self.forget(now)
        self.top += 1
        position = Position(self.epoch, self.top)
        payload = outgoing.placed(position)
        self.messages.append(payload)
        while len(self.messages) > settings.history:
            self.messages.popleft()
        self.history_until = now + settings.history_ttl
        self.keep(settings, now)
        return position, payload

    def forget(self, now: float) -> None:
        """Forget the messages if their time is over."""
        if now >= self.history_until:
            self.messages.clear()

    def page(self, offset: int) -> List[Incoming]:
        """Return the first messages that are kept and come after ``offset``, as many as a page holds."""
        skipped = max(0, offset - (self.top - len(self.messages)))
        messages: List[Incoming] = []
        size = 0
        for payload in itertools.islice(self.messages, skipped, None):
            messages.append(decode(payload))
            size += len(payload)
            if size >= PAGE_SIZE:
                break
        return messages


class MemoryEngine:
    """Carries messages within one event loop.

    :param namespaces: the settings of groups.
    :param receiver: is told what comes.
    """

    state = 'open'
    is_held = False

    def __init__(self, namespaces: Namespaces, receiver: Receiver) -> None:
        self._namespaces = namespaces
        self._receiver = receiver
        self.presence = MemoryRoster(receiver)
        self._loop = asyncio.get_running_loop()
        self._subscribed: Dict[str, None] = {}
        self._records: Dict[str, Record] = {}
        #: When to look what of a record is over its time.
        self._looks: List[Tuple[float, str]] = []
        self._timer: Optional[asyncio.TimerHandle] = None

    async def ready(self) -> None:
        """Return at once."""

    async def until_retry(self) -> None:
        """Return at once: it is never away."""

    async def stop(self) -> None:
        """Forget everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._records.clear()
        self._looks.clear()

    # Messages

    async def publish(self, batch: Sequence[Outgoing]) -> List[Result]:
        """Send messages, in order."""
        turn = TimeSlice()
        results: List[Result] = []
        for outgoing in batch:
            settings = self._namespaces.of(outgoing.name)
            position = None
            if settings.history:
                position, payload = self._record(outgoing.name).add(outgoing, settings, self._loop.time())
            else:
                payload = outgoing.placed(None)
            if outgoing.name in self._subscribed:
                self._receiver.take(outgoing.name, payload)
            results.append(position)
            if turn.is_over:
                await turn.give()
        return results

    async def subscribe(self, name: str) -> None:
        """Receive what is sent to the group."""
        self._subscribed[name] = None

    def unsubscribe(self, name: str) -> None:
        """Stop receiving what is sent to the group."""
        if self._subscribed.pop(name, self) is None and name in self._records:
            self._records[name].keep(self._namespaces.of(name), self._loop.time())

    async def place(self, name: str) -> Window:
        """Return where a group stands, without messages; it begins an epoch where it has none."""
        self._record(name)
        return await self.read(name, None)

    async def read(self, name: str, since: Optional[int]) -> Window:
        """Return the first messages after an offset, as many as a page holds; without one, none. It begins nothing."""
        record = self._records.get(name)
        if record is None:
            return Window('', 1, 0, None)
        record.forget(self._loop.time())
        first = record.top - len(record.messages) + 1
        messages = [] if since is None else contiguous(record.page(since), since, record.top)
        return Window(record.epoch, first, record.top, messages)

    def _record(self, name: str) -> Record:
        record = self._records.get(name)
        if record is None:
            record = self._records[name] = Record()
            record.keep(self._namespaces.of(name), self._loop.time())
            self._look_later(name)
        record.forget(self._loop.time())
        return record

    def _look_later(self, name: str) -> None:
        heapq.heappush(self._looks, (self._loop.time() + self._namespaces.of(name).history_ttl, name))
        if self._timer is None:
            self._timer = self._loop.call_at(self._looks[0][0], self._look)

    def _look(self) -> None:
        """Forget what is over its time; a record that has members is kept."""
        now = self._loop.time()
        while self._looks and self._looks[0][0] <= now:
            _, name = heapq.heappop(self._looks)
            record = self._records[name]
            record.forget(now)
            if name in self._subscribed:
                record.keep(self._namespaces.of(name), now)
            if record.kept_until > now:
                heapq.heappush(self._looks, (now + self._namespaces.of(name).history_ttl, name))
            else:
                del self._records[name]
        self._timer = self._loop.call_at(self._looks[0][0], self._look) if self._looks else None


class MemoryRoster:
    """Lists the members within one event loop.

    :param receiver: is notified of changes.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop = asyncio.get_running_loop()
        self._watched: Dict[str, None] = {}
        self._present: Dict[str, Dict[str, Member]] = {}

    async def watch(self, name: str) -> None:
        """Receive changes of the members."""
        self._watched[name] = None

    def unwatch(self, name: str) -> None:
        """Stop receiving changes of the members."""
        self._watched.pop(name, None)

    async def announce(self, name: str, members: Iterable[Member]) -> None:
        """Add members."""
        joined = list(members)
        self._present.setdefault(name, {}).update((member.id, member) for member in joined)
        self._tell(name, joined, [])

    async def withdraw(self, name: str, ids: Sequence[str]) -> None:
        """Remove members."""
        present = self._present.get(name, {})
        for id in ids:
            present.pop(id, None)
        if not present:
            self._present.pop(name, None)
        self._tell(name, [], ids)

    def _tell(self, name: str, joined: Sequence[Member], left: Sequence[str]) -> None:
        if name in self._watched:
            self._loop.call_soon(self._receiver.take_change, name, joined, left)

    async def members(self, name: str, limit: Optional[int]) -> List[Member]:
        """Return the members, or so many of them."""
        return list(self._present.get(name, {}).values())[:limit]

    async def count(self, name: str) -> int:
        """Return how many there are."""
        return len(self._present.get(name, ()))
