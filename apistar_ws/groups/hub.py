"""The groups of one process, or rather of one event loop in it: its members, its sequences, its engine."""

import asyncio
import contextlib
import logging
from typing import Any, Callable, Dict, List, Optional, Sequence

from apistar_ws.groups.audience import Counters
from apistar_ws.groups.background import Pump, start_task
from apistar_ws.groups.engine import Engine, Member
from apistar_ws.groups.errors import POSITION_LOST, GroupsUnavailable, PositionLost
from apistar_ws.groups.mailbox import Membership
from apistar_ws.groups.outbox import Outbox
from apistar_ws.groups.payload import Position, decode
from apistar_ws.groups.presence import OnPresence, PresenceWatch
from apistar_ws.groups.reads import SharedReads
from apistar_ws.groups.receivers import Closing
from apistar_ws.groups.sequence import GroupSequence
from apistar_ws.groups.settings import GroupSettings, Namespaces
from apistar_ws.log import RouteLog
from apistar_ws.messages.codecs import JSONCodec

logger = logging.getLogger('apistar_ws')

#: Seconds that leaving waits for the engine.
LEAVE_TIMEOUT = 1.0
#: Seconds that a message may take from one process to another.
ARRIVAL_TIMEOUT = 2.0
#: How often the last messages are read, where they are dropped meanwhile.
TRIES_TO_SHOW = 3
#: Groups that read at once what they have missed, and seconds that the next ones wait for them at most.
GROUPS_AT_ONCE, GROUPS_TIMEOUT = 50, 1.0


class Hub:
    """The groups of one event loop.

    :param namespaces: the settings.
    :param codec: encodes JSON.
    :param make_engine: makes the engine, which tells this hub.
    """

    def __init__(self, namespaces: Namespaces, codec: JSONCodec, make_engine: Callable[['Hub'], Engine]) -> None:
        self.loop = asyncio.get_running_loop()
        self.namespaces = namespaces
        self.codec = codec
        self.engine = make_engine(self)
        self.outbox = Outbox(self.engine.publish)
        self.reads = SharedReads(self.engine)
        self.closing = Closing()
        self.pump = Pump()
        self.counters = Counters()
        #: By the identity of a WebSocket or function, what it has joined.
        self.joined: Dict[Any, List[Membership]] = {}
        self._sequences: Dict[str, GroupSequence] = {}
        self._watches: Dict[str, PresenceWatch] = {}
        self._present: Dict[str, Dict[str, Member]] = {}
        self._log = RouteLog()

    # Membership

    async def join(
        self, member: Membership, since: Optional[Position], last: int, entry: Optional[Member]
    ) -> GroupSequence:
        """Make ``member`` one of its group, with the messages after ``since``, or without it the last ones.

        :raises PositionLost: if these are not whole.
        :raises GroupsUnavailable: if the engine is away.
        """
        sequence = self._sequence(member.group, member.settings)
        sequence.users += 1
        member.on_drop = self._note_drop
        try:
            await sequence.ready()
            if since is not None:
                await self._resume(sequence, member, since)
            elif last:
                await self._show(sequence, member, last)
            else:
                self._add(sequence, member, None)
            if entry is not None:
                await self._announce(member.group, entry)
            require_whole(member)
        except BaseException:
            sequence.audience.remove(member)
            self._release(sequence)
            if entry is not None:
                self._withdraw_later(member.group, entry)
            raise
        return sequence

    def _sequence(self, name: str, settings: GroupSettings) -> GroupSequence:
        sequence = self._sequences.get(name)
        if sequence is None:
            sequence = GroupSequence(name, settings, self.engine, self.reads, self.counters, self._tell_lost)
            self._sequences[name] = sequence
        return sequence

    def _tell_lost(self, name: str, reason: str) -> None:
        self._log.write(logging.WARNING, 'The group %r: messages were lost: %s. Its members are told.', name, reason)

    async def _require_reached(self, sequence: GroupSequence, since: Position) -> None:
        """Wait for messages that a client has got in another process, and that are still on their way to this one."""
        if since.epoch != sequence.audience.epoch:
            raise PositionLost()
        place = await self.reads.place(sequence.name)
        if place.epoch != since.epoch or place.top < since.offset:
            raise PositionLost()
        if not await sequence.audience.reached(since.offset, ARRIVAL_TIMEOUT):
            # Nothing is lost: what is sent does not come here.
            raise GroupsUnavailable('Messages of the group do not arrive')

    async def _resume(self, sequence: GroupSequence, member: Membership, since: Position) -> None:
        """Have ``member`` read what was sent after ``since``; the first page says whether it is whole."""
        audience = sequence.audience
        if audience.offset < since.offset:
            await self._require_reached(sequence, since)
        if since.epoch != audience.epoch:
            raise PositionLost()
        self._add(sequence, member, since.offset)
        if member.cursor is not None:
            await audience.load(*since)

    async def _show(self, sequence: GroupSequence, member: Membership, last: int) -> None:
        """Have ``member`` read the last messages; those that are dropped meanwhile are not among them."""
        audience = sequence.audience
        for _ in range(TRIES_TO_SHOW):
            place = await self.reads.place(member.group)
            first = place.first if place.epoch == audience.epoch else audience.offset + 1
            self._add(sequence, member, min(max(first - 1, audience.offset - last), audience.offset))
            try:
                if member.cursor is not None:
                    await audience.load(audience.epoch, member.cursor)
                return
            except PositionLost:
                audience.remove(member)
        self._add(sequence, member, None)

    def _add(self, sequence: GroupSequence, member: Membership, cursor: Optional[int]) -> None:
        member.position = member.joined = sequence.position
        sequence.audience.add(member, cursor)
        if member.cursor is not None:
            member.position = Position(sequence.audience.epoch, member.cursor)

    async def _announce(self, name: str, entry: Member) -> None:
        self._present.setdefault(name, {})[entry.id] = entry
        await self.engine.presence.announce(name, [entry])
        # Whoever joins is among the first members that it is told of.
        self.take_change(name, [entry], [])

    def _withdraw_later(self, name: str, entry: Member) -> Optional['asyncio.Task[None]']:
        """Take ``entry`` out of those who are announced again, and withdraw it, if it may have been announced."""
        entries = self._present.get(name, {})
        if entries.pop(entry.id, None) is None:
            return None
        if not entries:
            del self._present[name]
        return start_task(self._withdraw(name, entry.id))

    async def leave(self, sequence: GroupSequence, member: Membership, entry: Optional[Member]) -> None:
        """Make ``member`` none of its group; it takes a second at most."""
        sequence.audience.remove(member)
        self.unwatch(member)
        self._release(sequence)
        withdrawn = None if entry is None else self._withdraw_later(member.group, entry)
        await member.mailbox.leave(member)
        if withdrawn is not None:
            await asyncio.wait({withdrawn}, timeout=LEAVE_TIMEOUT)

    async def _withdraw(self, name: str, id: str) -> None:
        with contextlib.suppress(GroupsUnavailable):
            # When the engine is back, it is announced who is still there.
            await self.engine.presence.withdraw(name, [id])

    def _release(self, sequence: GroupSequence) -> None:
        sequence.users -= 1
        if not sequence.users:
            sequence.close()
            del self._sequences[sequence.name]
            self.engine.unsubscribe(sequence.name)

    def _note_drop(self, member: Membership) -> None:
        """Note that a message was dropped for want of room, as the settings have it."""
        self.counters.dropped += 1
        self._log.write(logging.INFO, 'The group %r: messages are dropped, a member does not read.', member.group)

    async def watch(self, member: Membership, on_change: OnPresence) -> None:
        """Tell ``member`` who else is in its group, from now on.

        :raises GroupsUnavailable: if the engine is away.
        """
        watch = self._watches.get(member.group)
        if watch is None:
            watch = self._watches[member.group] = PresenceWatch(member.group, self.engine)
        await watch.add(member, on_change)

    def unwatch(self, member: Membership) -> None:
        """Tell ``member`` no more of that."""
        watch = self._watches.get(member.group)
        if watch is not None:
            watch.remove(member)
            if not len(watch):
                del self._watches[member.group]

    # What the engine tells

    def take(self, name: str, payload: bytes) -> None:
        """Take what was sent to a group."""
        sequence = self._sequences.get(name)
        if sequence is None:
            return
        try:
            message = decode(payload)
        except ValueError:
            return sequence.lose('a process sends what this version cannot read')
        sequence.take(message)

    def take_change(self, name: str, joined: Sequence[Member], left: Sequence[str]) -> None:
        """Take who has joined and who has left."""
        watch = self._watches.get(name)
        if watch is not None:
            watch.take(joined, left)

    def refresh(self, name: Optional[str] = None) -> None:
        """Read anew who is in a group, or in each that is watched."""
        for watch in [watch for group, watch in self._watches.items() if name in (None, group)]:
            watch.refresh()

    def present(self) -> Dict[str, Dict[str, Member]]:
        """Return the members of this process, by group and id."""
        return self._present

    def on_disconnected(self) -> None:
        """Note that nothing is received from now on."""
        self.counters.gaps += 1
        for sequence in list(self._sequences.values()):
            sequence.on_disconnected()

    def on_reconnected(self) -> None:
        """Note that all groups are subscribed again."""
        start_task(self._catch_up())

    async def _catch_up(self) -> None:
        """Let the groups find out what they have missed, some at once, so that others have their turn."""
        names = list(self._sequences)
        for begin in range(0, len(names), GROUPS_AT_ONCE):
            found = [self._sequences.get(name) for name in names[begin : begin + GROUPS_AT_ONCE]]
            working = [sequence.on_reconnected() for sequence in found if sequence is not None]
            tasks = [task for task in working if task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=GROUPS_TIMEOUT)

    # The end

    async def stop(self, patience: Optional[float] = None) -> None:
        """Send what waits to be sent, and leave nothing running.

        :param patience: seconds that sending may take, None for as long as the engine answers.
        """
        await asyncio.wait({start_task(self.outbox.flush())}, timeout=patience)
        await self.engine.stop()
        self.outbox.note_unseen()

    @property
    def stats(self) -> Dict[str, Any]:
        """The result of :meth:`Groups.stats`."""
        sequences = self._sequences.values()
        counters = self.counters
        return {
            'groups': len(sequences),
            'members': sum(len(sequence.audience) for sequence in sequences),
            'engine': self.engine.state,
            'published': self.outbox.published,
            'publish_failed': self.outbox.failed,
            'publish_waiting': len(self.outbox),
            'publish_latency': self.outbox.latency,
            'queued': counters.queued,
            'dropped': counters.dropped,
            'gaps': counters.gaps,
            'recovered': counters.recovered,
            'told': counters.told,
            'closed': self.closing.closed,
        }


def require_whole(member: Membership) -> None:
    """Refuse a membership that has lost messages before it began.

    :raises PositionLost: where it cannot go on.
    :raises GroupsUnavailable: where too much came at once.
    """
    if member.lost is not None:
        raise PositionLost() if member.lost.close_code == POSITION_LOST else GroupsUnavailable(member.lost.reason)
