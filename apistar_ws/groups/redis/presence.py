"""The members of one process, as Redis lists them: under one lease, which runs out when the process is gone."""

import contextlib
import dataclasses
import json
import logging
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Set

from apistar_ws.groups.engine import Member, Receiver
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.keeper import Keeper
from apistar_ws.groups.payload import new_id
from apistar_ws.groups.redis.scripts import (
    ANNOUNCE,
    COUNT,
    ENTER,
    KEPT_LONGER_MS,
    MEMBERS,
    REPLACE,
    RETIRE,
    WITHDRAW,
    Names,
    Script,
)  # fmt: skip
from apistar_ws.groups.redis.session import Session

logger = logging.getLogger('apistar_ws')

#: Groups that are listed again by one command, and the members after which no further group is added.
GROUPS_PER_COMMAND, MEMBERS_PER_COMMAND = 100, 500


@dataclasses.dataclass(frozen=True)
class Lease:
    """The key under which all members of a process are listed."""

    #: Of the process, as long as it lives.
    id: str
    #: The number of its session; Redis ignores what comes with a lower one.
    session: int

    def __iter__(self) -> Iterator[Any]:
        return iter((self.id, self.session))

    def __str__(self) -> str:
        return self.id


class RedisPresence:
    """Lists the members of this process in Redis, and those of all processes.

    :param names: of keys and channels.
    :param seconds: after which the members of a process that has not been heard of count as gone.
    :param keeper: has the session.
    :param receiver: knows the members of this process, and is notified of changes.
    """

    def __init__(self, names: Names, seconds: float, keeper: Keeper[Session], receiver: Receiver) -> None:
        self._names = names
        self._keeper = keeper
        self._receiver = receiver
        self.lease = Lease(new_id(), 0)
        self.lease_ms = int(seconds * 1000)
        #: Whether Redis lists what this process has.
        self.is_listed = False
        #: Groups that somebody may have left without Redis knowing of it.
        self._unconfirmed: Set[str] = set()
        #: Channels that are subscribed, and the group of each.
        self.watched: Dict[bytes, str] = {}

    # Its lease

    async def begin(self, session: Session) -> None:
        """Have Redis list the members of this process, at the beginning of a session."""
        self.lease = Lease(self.lease.id, self.lease.session + 1)
        await self.restore(session)
        self._receiver.refresh()

    async def keep(self, session: Session, is_known: bool, differing: Sequence[str]) -> None:
        """Have Redis list again what it does not know any more, or what it lists in error."""
        if not (is_known and self.is_listed):
            return await self.restore(session)
        names = self._unconfirmed.union(differing)
        with contextlib.suppress(GroupsUnavailable):
            # What is refused is tried again by the next tick.
            for batch in in_batches(names, self._receiver.present()):
                await self._replace(session, batch)

    async def restore(self, session: Session) -> None:
        """Take the lease, then replace what Redis lists of this process by what it has.

        Where Redis refuses, at the limit of its memory, what is listed stays, and the next tick tries again.
        """
        self.is_listed = False
        try:
            listed = await self._change(
                session, ENTER, [], self._names.prefix, *self.lease, self.lease_ms, KEPT_LONGER_MS
            )
            names = self._unconfirmed.union(self._receiver.present(), (name.decode() for name in listed))
            for batch in in_batches(names, self._receiver.present()):
                await self._replace(session, batch)
        except GroupsUnavailable as exc:
            # The log has the failure of a session already.
            level = logging.WARNING if session.failure is None else logging.DEBUG
            logger.log(level, 'The engine of the groups does not take the list of members: %s', exc)
        else:
            self.is_listed = True

    async def _replace(self, session: Session, names: Sequence[str]) -> None:
        args: List[Any] = [self._names.prefix, *self.lease, KEPT_LONGER_MS, self._names.channel('members', '')]
        for name in names:
            members = self._receiver.present().get(name, {})
            args += (name, len(members), *pairs(members.values()))
        await self._change(session, REPLACE, [], *args)
        self._unconfirmed.difference_update(names)

    async def leave(self, session: Session) -> None:
        """Remove this process, at the end; without an answer its lease runs out."""
        with contextlib.suppress(GroupsUnavailable):
            channels = self._names.channel('members', '')
            await self._change(session, RETIRE, [], self._names.prefix, *self.lease, channels)

    async def _change(self, session: Session, script: Script, keys: Sequence[str], *args: Any) -> Any:
        return await session.change(script, [self._names.key('sessions'), *keys], *args)

    # Its members

    async def announce(self, name: str, members: Iterable[Member]) -> None:
        """Add members of this process."""
        joined, session = list(members), await self._keeper.ready()
        await self._change(
            session, ANNOUNCE, self._keys(name), *self.lease, name, KEPT_LONGER_MS,
            self._names.channel('members', name), json.dumps([joined, []]), *pairs(joined),
        )  # fmt: skip

    async def withdraw(self, name: str, ids: Sequence[str]) -> None:
        """Remove members of this process; where that fails, the next tick or session does it."""
        try:
            await self._change(
                await self._keeper.ready(), WITHDRAW, self._keys(name), *self.lease, name,
                self._names.channel('members', name), json.dumps([[], ids]), *ids,
            )  # fmt: skip
        except BaseException:
            self._unconfirmed.add(name)
            raise

    def _keys(self, name: str) -> List[str]:
        key, id = self._names.key, self.lease.id
        return [key('present', name), key('members', id, name), key('groups', id)]

    async def members(self, name: str, limit: Optional[int]) -> List[Member]:
        """Return the members in all processes, or so many of them."""
        found = await self._ask(MEMBERS, name, '' if limit is None else limit)
        return [Member(*json.loads(entry)[:3]) for entry in found]

    async def count(self, name: str) -> int:
        """Return how many there are."""
        return int(await self._ask(COUNT, name))

    async def _ask(self, script: Script, name: str, *args: Any) -> Any:
        session = await self._keeper.ready()
        return await session.ask(script, [self._names.key('present', name)], self._names.prefix, name, *args)

    # Changes

    async def watch(self, name: str) -> None:
        """Return when changes of the members come here."""
        session = await self._keeper.ready()
        channel = self._names.channel('members', name)
        self.watched[channel] = name
        await session.subscribe([channel])

    def unwatch(self, name: str) -> None:
        """Stop receiving changes of the members."""
        channel, session = self._names.channel('members', name), self._keeper.session
        if self.watched.pop(channel, None) is not None and session is not None:
            session.subscriber.unsubscribe(channel)

    def take(self, channel: bytes, data: bytes) -> None:
        """Take a notification of members who have joined and left."""
        name = self.watched.get(channel)
        if name is None:
            return
        try:
            joined, left = json.loads(data)
            members = [Member(*entry[:3]) for entry in joined]
        except (ValueError, TypeError):
            # Of another version, say.
            return self._receiver.refresh(name)
        self._receiver.take_change(name, members, left)


def pairs(members: Iterable[Member]) -> List[str]:
    """Return id and JSON of each member."""
    return [part for member in members for part in (member.id, json.dumps(member))]


def in_batches(names: Iterable[str], present: Dict[str, Dict[str, Member]]) -> Iterator[List[str]]:
    """Group ``names`` by what one command may hold."""
    batch: List[str] = []
    size = 0
    for name in names:
        batch.append(name)
        size += len(present.get(name, ()))
        if len(batch) == GROUPS_PER_COMMAND or size >= MEMBERS_PER_COMMAND:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
