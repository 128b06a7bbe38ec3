"""The members of a group, and notifications of their changes."""

import asyncio
from typing import Awaitable, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from apistar_ws.groups.background import start_task
from apistar_ws.groups.engine import Engine, Member
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.mailbox import Membership

#: Seconds between two reports of a group.
REPORT_INTERVAL = 1.0


class MembersChanged(NamedTuple):
    """The argument of ``on_change``: first all members, then those who joined and left since."""

    #: All members, at first and after the engine was away; None where the other two say what has changed.
    members: Optional[List[Member]]
    joined: List[Member] = []
    left: List[Member] = []


OnPresence = Callable[[MembersChanged], Awaitable[None]]


class PresenceWatch:
    """Tells members of one group who else is in it, at most once a second.

    :param name: the group.
    :param engine: knows the members.
    """

    def __init__(self, name: str, engine: Engine) -> None:
        self._name = name
        self._engine = engine
        self._told: Dict[Membership, OnPresence] = {}
        self._known: Optional[Dict[str, Member]] = None
        self._joined: Dict[str, Member] = {}
        self._left: Dict[str, Member] = {}
        #: What those were told that have come since the last report.
        self._fresh: Dict[Membership, Dict[str, Member]] = {}
        #: What comes while all members are read.
        self._pending: List[Tuple[Sequence[Member], Sequence[str]]] = []
        self._reading: Optional['asyncio.Task[None]'] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._reported_at = float('-inf')

    def __len__(self) -> int:
        return len(self._told)

    async def add(self, member: Membership, on_change: OnPresence) -> None:
        """Tell ``member`` from now on, beginning with all members.

        :raises GroupsUnavailable: if the engine is away.
        """
        self._told[member] = on_change
        if self._known is None and self._reading is None:
            await self._engine.presence.watch(self._name)
            self.refresh()
        elif self._known is not None:
            self._fresh[member] = dict(self._known)
            tell(member, on_change, MembersChanged(list(self._known.values())))

    def remove(self, member: Membership) -> None:
        """Tell ``member`` no more."""
        self._told.pop(member, None)
        self._fresh.pop(member, None)
        if not self._told:
            self._engine.presence.unwatch(self._name)
            if self._timer is not None:
                self._timer.cancel()
            if self._reading is not None:
                self._reading.cancel()

    def refresh(self) -> None:
        """Read all members again, and notify all watchers."""
        if self._reading is None:
            self._reading = start_task(self._read())

    async def _read(self) -> None:
        self._known = None
        try:
            while self._known is None:
                try:
                    self._known = {
                        member.id: member for member in await self._engine.presence.members(self._name, None)
                    }
                except GroupsUnavailable:
                    await self._engine.until_retry()
        finally:
            self._reading = None
        self._joined, self._left = {}, {}
        pending, self._pending = self._pending, []
        for joined, left in pending:
            self._note(joined, left)
        self._joined, self._left = {}, {}
        self._report_all(self._known)

    def take(self, joined: Sequence[Member], left: Sequence[str]) -> None:
        """Take who has joined and left."""
        if self._known is None or self._reading is not None:
            self._pending.append((joined, left))
            return
        self._note(joined, left)
        if (self._joined or self._left) and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._reported_at + REPORT_INTERVAL), self._report_changes)

    def _note(self, joined: Sequence[Member], left: Sequence[str]) -> None:
        assert self._known is not None
        for member in joined:
            if self._known.setdefault(member.id, member) is member and self._left.pop(member.id, None) is None:
                self._joined[member.id] = member
        for id in left:
            gone = self._known.pop(id, None)
            if gone is not None and self._joined.pop(id, None) is None:
                self._left[id] = gone

    def _report_changes(self) -> None:
        self._timer = None
        fresh, self._fresh = self._fresh, {}
        change = MembersChanged(None, list(self._joined.values()), list(self._left.values()))
        self._joined, self._left = {}, {}
        self._reported_at = asyncio.get_running_loop().time()
        for member, on_change in self._told.items():
            # Who has come since the last report knows of a part of this already.
            changed = self._since(fresh[member]) if member in fresh else change
            if changed.joined or changed.left:
                tell(member, on_change, changed)

    def _since(self, told: Dict[str, Member]) -> MembersChanged:
        """Return the changes since a member was notified last."""
        known = self._known or {}
        joined = [member for id, member in known.items() if id not in told]
        return MembersChanged(None, joined, [member for id, member in told.items() if id not in known])

    def _report_all(self, known: Dict[str, Member]) -> None:
        self._fresh.clear()
        self._reported_at = asyncio.get_running_loop().time()
        for member, on_change in self._told.items():
            tell(member, on_change, MembersChanged(list(known.values())))


def tell(member: Membership, on_change: OnPresence, change: MembersChanged) -> None:
    """Notify ``member`` when its mailbox delivers."""

    async def call() -> None:
        await on_change(change)

    if len(member.notices) >= member.max_queue:
        return member.lose('it does not take what it is told of other members', is_overflow=True)
    member.notices.append(call)
    member.mailbox.wake(member)
