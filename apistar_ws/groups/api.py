"""The API for handlers and scripts: ``Groups``, and the ``Group`` of a member."""

import asyncio
import contextlib
import logging
import re
import time
from types import TracebackType
from typing import (
    Any,
    AsyncContextManager,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    List,
    NamedTuple,
    NoReturn,
    Optional,
    Type,
    Union,
)

from apistar_ws.connection.websocket import WebSocket
from apistar_ws.groups.engine import Member
from apistar_ws.groups.errors import MessagesLost, PositionLost
from apistar_ws.groups.hub import Hub
from apistar_ws.groups.hubs import Hubs
from apistar_ws.groups.mailbox import Mailbox, Membership
from apistar_ws.groups.outbox import Sent
from apistar_ws.groups.payload import (
    Incoming,
    Outgoing,
    Position,
    add_to_object,
    encode,
    encode_json,
    key_id,
    new_id,
    parse_position,
)
from apistar_ws.groups.presence import MembersChanged
from apistar_ws.groups.receivers import Block, OnMessage, ToFunction, ToWebSocket, require_async
from apistar_ws.groups.settings import GroupSettings, GroupsOptions, check_name, is_amount
from apistar_ws.types import Data, Unpack

logger = logging.getLogger('apistar_ws')

POSITION_KEY = re.compile('[A-Za-z_][A-Za-z0-9_.-]*')

Joining = Union[WebSocket, OnMessage]
OnLost = Callable[[MessagesLost], Awaitable[Any]]
OnChange = Callable[[MembersChanged], Awaitable[Any]]


class GroupMessage(NamedTuple):
    """A message that a group has kept; see :meth:`Groups.history`."""

    #: Text or bytes, as it was sent.
    data: Data
    #: Where it stands.
    position: str


class Group:
    """A group, as one of its members sees it; what ``async with groups.join(...)`` gives."""

    def __init__(self, groups: 'Groups', member: Membership) -> None:
        self._groups = groups
        self._member = member
        #: Its name.
        self.name = member.group

    @property
    def position(self) -> Optional[str]:
        """The position for the client to keep and return with as ``since=``; None in a group without history.

        It is that of the last message that was handed to the socket.
        """
        return None if self._member.position is None else str(self._member.position)

    def send(self, data: Any, exclude: Optional[Joining] = None) -> Sent:
        """Send to all members; see :meth:`Groups.send`."""
        return self._groups.send(self.name, data, exclude)

    def send_json(self, value: Any, exclude: Optional[Joining] = None) -> Sent:
        """Send JSON to all members; see :meth:`Groups.send_json`."""
        return self._groups.send_json(self.name, value, exclude)

    async def members(self, limit: Optional[int] = None) -> List[Member]:
        """Return who is in the group; see :meth:`Groups.members`."""
        return await self._groups.members(self.name, limit)

    async def count(self) -> int:
        """Return how many are in the group."""
        return await self._groups.count(self.name)


class Groups:
    """Sends to groups of connections, in this process or in many; annotate an argument with it, ``groups: Groups``.

    Supplied by :class:`GroupsComponent`, to handlers of WebSockets and of HTTP, to hooks and components.

    :param hub: the groups of this event loop.
    """

    #: For errors: what is missing where nobody supplies it.
    supplied_by = 'GroupsComponent()'

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, **options: 'Unpack[GroupsOptions]') -> 'AsyncIterator[Groups]':
        """Supply the groups to a script, a cron job or a task queue: ``async with Groups.connect(url) as groups``.

        Leaving the block sends what still waits.

        :param url: of the Redis that the application has.
        :param options: those of :class:`GroupsComponent`, as the application has them.
        :raises GroupsUnavailable: if Redis is away.
        :raises ConfigurationError: for a Redis or an option that cannot be used.
        """
        hubs = Hubs(url, options, 'Groups.connect()')
        hub = hubs.current()
        hub.engine.is_held = True
        try:
            await hub.engine.ready()
            yield cls(hub)
        finally:
            await hubs.stop()

    def join(
        self,
        name: str,
        ws: Joining,
        since: Optional[str] = None,
        info: Any = None,
        key: Optional[str] = None,
        on_lost: Optional[OnLost] = None,
        on_change: Optional[OnChange] = None,
        *,
        last: int = 0,
        position_key: Optional[str] = None,
    ) -> 'Join':
        """Make a connection a member, by ``async with``: until the block is left, it gets what is sent to the group.

        Who may join is for the handler to decide, before. With ``since`` it gets first what was sent since that
        position, also while it was away: authorise for that too, or leave it out.

        :param name: the group; text of at most 200 bytes. Never one that is taken raw from a client.
        :param ws: the connection, or an async function of ``(message)`` for a handler that filters or rewrites. The
            function is called with one message after the other; what it raises is raised in the block.
        :param since: the position that the client has kept; None and an empty text mean that it has none.
        :param info: what others see of this member, a value of JSON.
        :param key: whose connection it is: a message that excludes one of them excludes all with the same key, so
            that a client that comes back is not sent its own messages.
        :param on_lost: an async function of :class:`MessagesLost`; the member stays, and goes on behind the loss.
            Without it, the connection is closed with 1013 where it may come back with its position, with 4410 where
            the position is lost too; in the block of a function ``MessagesLost`` is raised.
        :param on_change: an async function of :class:`MembersChanged`, called with all members, then with changes, at
            most once a second.
        :param last: how many of the last messages a member without a position gets first, with nothing missing
            between them and what comes then, and nothing twice.
        :param position_key: the key under which JSON objects get their position; after the join one is sent that has
            nothing else. Text, bytes and arrays have no room for it.
        :raises ValueError: for a name that cannot be, or a group that the connection is in already.
        :raises PositionLost: where ``since`` is none of this group, or its messages are not whole any more.
        :raises GroupsUnavailable: if the engine is away.
        """
        joined = self._joined(name, ws, since, info, key, on_lost, on_change, last, position_key)
        return Join(joined, name)

    @contextlib.asynccontextmanager
    async def _joined(
        self, name: str, ws: Joining, since: Optional[str], info: Any, key: Optional[str], on_lost: Optional[OnLost],
        on_change: Optional[OnChange], last: int, position_key: Optional[str],
    ) -> AsyncIterator[Group]:  # fmt: skip
        hub = self._require_hub('join')
        settings = hub.namespaces.of(check_name(name))
        check_options(key, position_key, on_lost, on_change)
        require_kept(name, settings, last, position_key)
        require_listed(name, settings, on_change is not None)
        entry = Member(new_id(), plain_data(hub, info), time.time()) if settings.presence else None
        block = Block(name)
        mailbox = self._mailbox(hub, ws, name, block)
        exclude_id = key_id(key) if key else mailbox.exclude_id
        member = Membership(name, settings, mailbox, block, exclude_id, position_key, on_lost)
        mailbox.memberships[name] = member
        hub.joined.setdefault(identity(ws), []).append(member)
        try:
            sequence = await hub.join(member, position_of(since), last, entry)
            try:
                self._release(hub, member)
                if on_change is not None:
                    await hub.watch(member, on_change)
                async with raising(block):
                    yield Group(self, member)
            finally:
                await hub.leave(sequence, member, entry)
        finally:
            forget(hub, ws, member)

    def _mailbox(self, hub: Hub, ws: Any, name: str, block: Block) -> Mailbox:
        """Return the mailbox of a connection that is not in the group ``name``; a function has one for each join."""
        joined = hub.joined.get(identity(ws), [])
        if not isinstance(ws, WebSocket):
            function = require_async(ws, 'a WebSocket or an async function of (message)')
            to_function = ToFunction(function, block)
            return Mailbox(to_function, joined[0].mailbox.exclude_id if joined else new_id(), hub.pump)
        open_ones = [member.mailbox for member in joined if not member.mailbox.is_over]
        if any(mailbox.memberships.get(name) for mailbox in open_ones):
            raise ValueError('The connection is in the group %r already: leave it before it joins again.' % name)
        return open_ones[0] if open_ones else Mailbox(ToWebSocket(ws, hub.closing), new_id(), hub.pump)

    def _release(self, hub: Hub, member: Membership) -> None:
        """Let the member get messages; the first one says where it stands, if it wants to know."""
        if member.position_key is not None and member.joined is not None:
            where = Incoming(add_to_object('{}', member.position_key, str(member.joined)), member.joined)
            member.marker = where
        member.release()

    def send(self, name: str, data: Any, exclude: Optional[Joining] = None) -> Sent:
        """Send one message to all members of a group, in every process.

        A plain function: the message is on its way, in the order of the calls. Await what it returns to know that the
        engine has it, and for its position.

        :param name: the group.
        :param data: text, bytes, or a ``types.Type``, which is sent as JSON.
        :param exclude: a connection that does not get it, usually the sender's.
        :raises ValueError: for a name that cannot be, a message that is too large, or text that UTF-8 cannot encode.
        :raises TypeError: for data that cannot be sent.
        :raises RuntimeError: from another thread than that of the event loop.
        """
        hub = self._require_hub('send')
        return self._put(hub, encode(hub.codec, check_name(name), data, self._excluded(hub, name, exclude)))

    def send_json(self, name: str, value: Any, exclude: Optional[Joining] = None) -> Sent:
        """Send a value as JSON to all members of a group; see :meth:`send`."""
        hub = self._require_hub('send_json')
        return self._put(hub, encode_json(hub.codec, check_name(name), value, self._excluded(hub, name, exclude)))

    def _put(self, hub: Hub, outgoing: Outgoing) -> Sent:
        limit = hub.namespaces.of(outgoing.name).max_message
        if outgoing.size > limit:
            raise ValueError(
                'The message to the group %r has %d bytes, and max_message is %d: nothing was sent.'
                % (outgoing.name, outgoing.size, limit)
            )
        return hub.outbox.put(outgoing)

    def _excluded(self, hub: Hub, name: str, exclude: Optional[Joining]) -> str:
        joined = [] if exclude is None else hub.joined.get(identity(exclude), [])
        ids = [member.exclude_id for member in joined if member.group == name]
        ids += [member.mailbox.exclude_id for member in joined]
        return ids[0] if ids else ''

    async def members(self, name: str, limit: Optional[int] = None) -> List[Member]:
        """Return who is in a group, in every process.

        :param name: the group.
        :param limit: how many at most; a hundred thousand are much to read.
        :raises ValueError: for a group without presence.
        :raises GroupsUnavailable: if the engine is away.
        """
        return await self._listed(name).engine.presence.members(name, limit)

    async def count(self, name: str) -> int:
        """Return how many are in a group, in every process; it costs less than :meth:`members`.

        :raises ValueError: for a group without presence.
        :raises GroupsUnavailable: if the engine is away.
        """
        return await self._listed(name).engine.presence.count(name)

    def _listed(self, name: str) -> Hub:
        hub = self._require_hub('members')
        require_listed(name, hub.namespaces.of(check_name(name)))
        return hub

    async def history(self, name: str, since: Optional[str] = None, limit: Optional[int] = None) -> List[GroupMessage]:
        """Return the messages that a group has kept, in order.

        :param name: the group.
        :param since: a position, for what came after it; without it, the last ones.
        :param limit: how many at most.
        :raises PositionLost: where ``since`` is none of this group, or what came after it is not whole any more.
        :raises GroupsUnavailable: if the engine is away.
        """
        hub = self._require_hub('history')
        if limit is not None and not is_amount(limit, int):
            raise ValueError('limit=%r has to be a whole number above 0, or None for all.' % (limit,))
        if not hub.namespaces.of(check_name(name)).history:
            raise ValueError('The group %r keeps no history: its namespace has history=0.' % name)
        position = position_of(since)
        found = await history_of(hub, name, position, limit)
        return [GroupMessage(message.data, str(message.position)) for message in found]

    def stats(self) -> Dict[str, Any]:
        """Return the counters of this process for monitoring, by name, and the state of the engine.

        ``groups`` and ``members`` are here now; ``published``, ``publish_failed`` and ``publish_waiting`` are messages
        that were sent, ``publish_latency`` the seconds that the last one took; ``queued`` and ``dropped`` count
        messages by member; ``gaps`` is how often the engine was away or has lost messages, ``recovered`` how many
        messages were read again, ``told`` the members that were told of a loss, ``closed`` those that were closed.
        """
        return self._require_hub('stats').stats

    def _require_hub(self, call: str) -> Hub:
        if asyncio._get_running_loop() is not self._hub.loop:
            raise RuntimeError(
                'groups.%s() was called outside of the event loop that the groups belong to, in another thread say: '
                'use loop.call_soon_threadsafe, or asyncio.run_coroutine_threadsafe.' % call
            )
        return self._hub


@contextlib.asynccontextmanager
async def raising(block: Block) -> AsyncIterator[None]:
    """Raise in a block what a function of its member has raised; what the block raises by itself comes first."""
    try:
        yield
    except BaseException as exc:
        failure = await block.left(exc)
        if failure is not None:
            raise failure from None
        raise
    failure = await block.left(None)
    if failure is not None:
        raise failure


class Join:
    """The result of :meth:`Groups.join`: a membership that begins and ends with ``async with``.

    :param joined: what is entered.
    :param name: the name of the group.
    """

    def __init__(self, joined: AsyncContextManager[Group], name: str) -> None:
        self._joined = joined
        self._name = name
        self._is_entered = False

    async def __aenter__(self) -> Group:
        self._is_entered = True
        return await self._joined.__aenter__()

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], exc: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> Optional[bool]:
        return await self._joined.__aexit__(kind, exc, traceback)

    def _refuse(self, *arguments: Any) -> NoReturn:
        self._is_entered = True
        raise TypeError('groups.join() is entered: async with groups.join(%r, ws) as group.' % self._name)

    __await__ = __enter__ = __exit__ = _refuse

    def __del__(self) -> None:
        if not self._is_entered:
            logger.warning(
                'groups.join(%r) was called and never entered, so nobody has joined: async with groups.join(%r, ws).',
                self._name, self._name,
            )  # fmt: skip


async def history_of(hub: Hub, name: str, since: Optional[Position], limit: Optional[int]) -> List[Incoming]:
    """Return the messages after a position, or without one the last ones, page by page.

    :raises PositionLost: where they are not whole.
    """
    window = await hub.engine.read(name, None)
    end = window.top
    if since is None:
        cursor = window.first - 1 if limit is None else max(window.first - 1, end - limit)
    elif window.epoch != since.epoch or end < since.offset:
        raise PositionLost()
    else:
        cursor = since.offset
        end = end if limit is None else min(end, cursor + limit)
    found: List[Incoming] = []
    while cursor < end:
        page = await hub.engine.read(name, cursor)
        if page.epoch != window.epoch or not page.messages:
            if since is not None:
                raise PositionLost()
            # Messages were dropped meanwhile: the last ones are others.
            found, cursor = [], page.first - 1 if page.epoch != window.epoch else max(page.first - 1, cursor + 1)
            window, end = page, page.top
            continue
        found += page.messages[: end - cursor]
        cursor += len(page.messages)
    return found if limit is None or since is not None else found[-limit:]


def position_of(since: Optional[str]) -> Optional[Position]:
    """Return the position that a client has kept, or None where it has none.

    :raises PositionLost: for what is none.
    """
    if since is None or since == '':
        return None
    position = parse_position(since)
    if position is None:
        raise PositionLost()
    return position


def plain_data(hub: Hub, info: Any) -> Any:
    """Return ``info`` as others see it, after its way through JSON."""
    return None if info is None else hub.codec.loads(hub.codec.dumps(info))


def check_options(key: Optional[str], position_key: Optional[str], on_lost: Any, on_change: Any) -> None:
    """Refuse options of a join that cannot be meant.

    :raises ValueError: naming the option.
    :raises TypeError: for a function that cannot be awaited.
    """
    if key is not None and (not isinstance(key, str) or not key):
        raise ValueError('key=%r has to be a text, such as the name of a user.' % (key,))
    if position_key is not None and not (isinstance(position_key, str) and POSITION_KEY.fullmatch(position_key)):
        raise ValueError('position_key=%r has to be a name of letters, digits, _, . and -.' % (position_key,))
    if on_lost is not None:
        require_async(on_lost, 'an async function of (lost) as on_lost')
    if on_change is not None:
        require_async(on_change, 'an async function of (change) as on_change')


def require_kept(name: str, settings: GroupSettings, last: int, position_key: Optional[str]) -> None:
    """Refuse to ask for more messages than a group keeps, and for positions where it keeps none.

    :raises ValueError: naming the group.
    """
    if last != 0 and not is_amount(last, int):
        raise ValueError('last=%r has to be a whole number, 0 for none.' % (last,))
    if last > settings.history:
        raise ValueError('last=%d is more than the group %r keeps: history=%d.' % (last, name, settings.history))
    if position_key is not None and not settings.history:
        raise ValueError('The messages of the group %r have no position: its namespace has history=0.' % name)


def require_listed(name: str, settings: GroupSettings, is_asked: bool = True) -> None:
    """Refuse to ask for the members of a group that does not list them.

    :raises ValueError: naming the group.
    """
    if is_asked and not settings.presence:
        raise ValueError('The members of the group %r are not listed: its namespace has presence=False.' % name)


def identity(ws: Any) -> Any:
    """Return the identity of a WebSocket or function; a bound method is a new object each time."""
    return (id(getattr(ws, '__self__', None)), id(getattr(ws, '__func__', ws)))


def forget(hub: Hub, ws: Any, member: Membership) -> None:
    """Take a membership out of what its connection has joined."""
    joined = hub.joined[identity(ws)]
    joined.remove(member)
    if not joined:
        del hub.joined[identity(ws)]
    if member.mailbox.memberships.get(member.group) is member:
        del member.mailbox.memberships[member.group]
