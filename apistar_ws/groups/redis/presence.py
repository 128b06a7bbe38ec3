"""Who is in the groups of one process, as Redis knows it: under one lease, which runs out when the process is gone."""

import contextlib
import json
import logging
from typing import Callable, Dict, Iterable, List, Optional, Sequence

from redis.exceptions import RedisError

from apistar_ws.groups.engine import Member
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.payload import new_id
from apistar_ws.groups.redis.scripts import ANNOUNCE, COUNT, KEPT_LONGER_MS, MEMBERS, RETIRE, WITHDRAW, Names
from apistar_ws.groups.redis.session import Session

logger = logging.getLogger('apistar_ws')

#: Members that are announced by one command.
MEMBERS_PER_COMMAND = 500


class RedisPresence:
    """Announces the members of one process, and lists those of all.

    :param names: of keys and channels.
    :param lease: seconds after which the members of a process count as gone that has not been heard of.
    :param present: returns the members of this process, by group and id.
    """

    def __init__(self, names: Names, lease: float, present: Callable[[], Dict[str, Dict[str, Member]]]) -> None:
        self._names = names
        self._present = present
        self.lease_ms = int(lease * 1000)
        #: Under what the members of this process are announced.
        self.lease = ''
        #: Earlier leases, under which members may still be announced.
        self.former: List[str] = []

    async def take_lease(self, session: Session) -> None:
        """Announce all members of this process under a new lease, and then let the old one go.

        :raises GroupsUnavailable: if Redis goes away in the end.
        """
        before, self.lease = self.lease, new_id()
        try:
            await session.asking.call('SET', self._names.key('lease', self.lease), 1, 'PX', self.lease_ms)
            await session.asking.call('SADD', self._names.key('leases'), self.lease)
            await session.asking.call('PEXPIRE', self._names.key('leases'), KEPT_LONGER_MS)
            for name in list(self._present()):
                await self._announce_again(session, name)
        except (RedisError, GroupsUnavailable) as exc:
            # At the limit of its memory, say: the next tick tries again, and what is announced stays.
            self.former.append(self.lease)
            self.lease = before
            return logger.warning('The engine of the groups does not take the list of members: %s', exc)
        self.former.append(before)
        while self.former:
            await self._retire(session, self.former[-1])
            self.former.pop()

    async def _announce_again(self, session: Session, name: str) -> None:
        ids = list(self._present().get(name, ()))
        for begin in range(0, len(ids), MEMBERS_PER_COMMAND):
            # Who has left meanwhile is withdrawn already.
            present = self._present().get(name, {})
            members = [present[id] for id in ids[begin : begin + MEMBERS_PER_COMMAND] if id in present]
            if members:
                await self.announce(session, name, members)

    async def _retire(self, session: Session, lease: str) -> None:
        names = self._names
        await session.asking.whole_script(
            RETIRE, [names.key('leases')], names.prefix, lease, names.channel('members', '')
        )

    async def leave(self, session: Session) -> None:
        """Let the lease go, at the end; without an answer it runs out by itself."""
        with contextlib.suppress(GroupsUnavailable):
            await self._retire(session, self.lease)

    async def announce(self, session: Session, name: str, members: Iterable[Member]) -> None:
        """Add members of this process."""
        joined = list(members)
        pairs = [part for member in joined for part in (member.id, json.dumps(member))]
        await session.asking.whole_script(
            ANNOUNCE, self._keys(name), self.lease, name, KEPT_LONGER_MS,
            self._names.channel('members', name), json.dumps([joined, []]), *pairs,
        )  # fmt: skip

    async def withdraw(self, session: Session, name: str, ids: Sequence[str]) -> None:
        """Remove members of this process."""
        await session.asking.whole_script(
            WITHDRAW, self._keys(name), self.lease, name,
            self._names.channel('members', name), json.dumps([[], ids]), *ids,
        )  # fmt: skip

    def _keys(self, name: str) -> List[str]:
        key = self._names.key
        return [key('present', name), key('members', self.lease, name), key('groups', self.lease)]

    async def members(self, session: Session, name: str, limit: Optional[int]) -> List[Member]:
        """Return the members in all processes, or so many of them."""
        found = await session.asking.script(
            MEMBERS, [self._names.key('present', name)], self._names.prefix, name, '' if limit is None else limit
        )
        return [Member(*json.loads(entry)[:3]) for entry in found]

    async def count(self, session: Session, name: str) -> int:
        """Return how many there are."""
        return int(await session.asking.script(COUNT, [self._names.key('present', name)], self._names.prefix, name))
