"""The engine of many processes and machines: Redis or Valkey."""

import asyncio
import logging
from typing import Any, Dict, Iterable, List, Optional, Sequence
from urllib.parse import urlsplit

from apistar.exceptions import ConfigurationError
from redis.exceptions import RedisError

from apistar_ws.groups.background import start_task
from apistar_ws.groups.engine import PAGE_SIZE, Receiver, Result, Window, contiguous
from apistar_ws.groups.keeper import Keeper
from apistar_ws.groups.payload import Incoming, Outgoing, Position, decode, new_id
from apistar_ws.groups.redis.presence import RedisPresence
from apistar_ws.groups.redis.scripts import KEPT_LONGER_MS, PUBLISH, READ, TICK, Names
from apistar_ws.groups.redis.sentinel import SentinelServer
from apistar_ws.groups.redis.server import CONNECT_TIMEOUT, Server
from apistar_ws.groups.redis.session import Session
from apistar_ws.groups.settings import GroupSettings, Namespaces
from apistar_ws.interruption import TimeLimit

logger = logging.getLogger('apistar_ws')

#: Seconds between two ticks at most.
TICK_INTERVAL = 5.0
#: Ticks in which all that is used is renewed, at most, and how many groups in one at least.
TICKS_TO_RENEW, LEAST_RENEWED = 120, 500


class RedisEngine:
    """Carries messages between all processes that have the same Redis and the same prefix.

    :param url: as redis-py has it: ``redis://``, ``rediss://`` or ``unix://``.
    :param namespaces: the settings of groups, and of the engine.
    :param receiver: is notified of what comes.
    """

    def __init__(self, url: str, namespaces: Namespaces, receiver: Receiver) -> None:
        shared = namespaces.shared
        self._server = server_of(url)
        self._names = Names(shared.prefix, self._server.database)
        self._namespaces = namespaces
        self._receiver = receiver
        self._interval = min(TICK_INTERVAL, shared.lease / 2)
        self._timeout = shared.publish_timeout
        self._keeper: Keeper[Session] = Keeper(self._session, self._connect, self._serve, receiver)
        self.presence = RedisPresence(self._names, shared.lease, self._keeper, receiver)
        #: Whether it stays although nobody uses it, and whether somebody did since the last tick.
        self.is_held = False
        self._is_used = False
        #: The highest generation of a history that was seen.
        self._generation = 0
        #: Channels that are subscribed, and the group of each.
        self._groups: Dict[bytes, str] = {}
        self._renewed = 0
        #: Set for a tick before its time; how many there were.
        self._tick_now = asyncio.Event()
        self.ticks = 0

    @staticmethod
    def check_url(url: str) -> None:
        """Refuse a URL that cannot be used.

        :raises ConfigurationError: saying what is wrong.
        """
        server_of(url)

    # Its life

    @property
    def state(self) -> str:
        """``'open'``, ``'away'``, or ``'stopped'`` while it was not needed yet."""
        return self._keeper.state

    async def ready(self) -> None:
        """Start, if need be, and return when it is open.

        :raises ConfigurationError: for a Redis that cannot be used.
        :raises GroupsUnavailable: if it is away.
        """
        await self._keeper.ready()

    async def until_retry(self) -> None:
        """Return when it is worth another try."""
        await self._keeper.until_retry()

    async def stop(self) -> None:
        """Stop all tasks, and remove all members from the lists."""
        await self._keeper.stop(self.presence.leave)

    def _session(self) -> Session:
        return Session(self._names, self._timeout, self._take)

    async def _connect(self, session: Session) -> None:
        try:
            with TimeLimit(CONNECT_TIMEOUT):
                info = await session.open(self._server, self._generation)
        except (RedisError, OSError, ConfigurationError) as exc:
            raise self._server.explained(exc) from None
        self._generation = session.generation
        policy = info.get('maxmemory_policy', 'noeviction')
        if policy != 'noeviction' and self.state == 'starting':
            logger.warning(
                'GroupsComponent: Redis has the policy %s, by which it may drop the keys of groups: messages are lost, '
                'and lists of members are wrong. Use noeviction.', policy,
            )  # fmt: skip
        await session.begin([*self._groups, *self.presence.watched], CONNECT_TIMEOUT)

    async def _serve(self, session: Session) -> Optional[Exception]:
        failed, ticking = start_task(session.failed()), start_task(self._tick_forever(session))
        try:
            await asyncio.wait({failed, ticking}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                return failed.result()
            # Whatever it raises: without ticks the lease runs out.
            ticking.result()
            await self.presence.leave(session)
            return None
        finally:
            failed.cancel(), ticking.cancel()
            await asyncio.wait({failed, ticking})

    async def _tick_forever(self, session: Session) -> None:
        """Renew used keys and probe the connections, as long as there are some; an idle process does nothing else."""
        await self.presence.begin(session)
        while True:
            self._is_used = False
            await self._until_tick()
            if not (self.is_held or self._is_used or self._groups or self.presence.watched):
                self._keeper.is_ending = True
                return
            await self._tick(session)

    async def _until_tick(self) -> None:
        timer = asyncio.get_running_loop().call_later(self._interval, self._tick_now.set)
        try:
            await self._tick_now.wait()
        finally:
            timer.cancel()
            self._tick_now.clear()

    async def _tick(self, session: Session) -> None:
        used: List[Any] = []
        for name in self._to_renew():
            settings = self._namespaces.of(name)
            times = (self._record_ms(settings), self._empty_ms(settings)) if settings.history else (0, 0)
            used += (name, *times, len(self._receiver.present().get(name, ())))
        presence = self.presence
        is_known, *differing = await session.publish(
            TICK, [self._names.key('sessions')], self._names.prefix, *presence.lease, presence.lease_ms,
            KEPT_LONGER_MS, *session.probe(), self._names.channel('members', ''), *used,
        )  # fmt: skip
        await presence.keep(session, bool(is_known), [name.decode() for name in differing])
        self.ticks += 1

    def _to_renew(self) -> List[str]:
        """Return the groups whose turn it is."""
        names = list(self._groups.values())
        shortest = min((self._namespaces.of(name).history_ttl for name in names), default=0.0)
        ticks = max(1, min(TICKS_TO_RENEW, int(shortest / 2 / self._interval)))
        count = max(LEAST_RENEWED, -(-len(names) // ticks))
        if self._renewed >= len(names):
            self._renewed = 0
        begin, self._renewed = self._renewed, self._renewed + count
        return names[begin : begin + count]

    async def _open_session(self) -> Session:
        session = await self._keeper.ready()
        self._is_used = True
        return session

    def _record_ms(self, settings: GroupSettings) -> int:
        return int(settings.history_ttl * 1000) + KEPT_LONGER_MS

    def _empty_ms(self, settings: GroupSettings) -> int:
        """Return how long the place of a group without a message is kept: until a tick renews it, at least."""
        return int(max(settings.history_ttl, 3 * self._interval) * 1000)

    # Messages

    async def publish(self, batch: Sequence[Outgoing]) -> List[Result]:
        """Send messages, in order."""
        session = await self._open_session()
        keys: List[str] = []
        args: List[Any] = []
        for outgoing in batch:
            name, settings = outgoing.name, self._namespaces.of(outgoing.name)
            keys += (self._names.key('record', name), self._names.key('stream', name))
            args += (
                new_id(), self._names.channel('group', name), settings.history, int(settings.history_ttl * 1000),
                self._record_ms(settings), outgoing.head, outgoing.tail,
            )  # fmt: skip
        answers = await session.publish(PUBLISH, keys, *args)
        return [self._result(session, answer) for answer in answers]

    def _result(self, session: Session, answer: bytes) -> Result:
        if answer[:1] != b'+':
            return session.refusal(RuntimeError(answer[1:].decode('utf-8', 'replace')), answer[:1] == b'?')
        epoch, _, offset = answer[1:].decode().partition('.')
        return Position(epoch, int(offset)) if epoch else None

    async def subscribe(self, name: str) -> None:
        """Return when what is sent to the group from now on comes here."""
        session = await self._open_session()
        channel = self._names.channel('group', name)
        self._groups[channel] = name
        await session.subscribe([channel])

    def unsubscribe(self, name: str) -> None:
        """Stop receiving what is sent to the group."""
        channel, session = self._names.channel('group', name), self._keeper.session
        if self._groups.pop(channel, None) is not None and session is not None:
            session.subscriber.unsubscribe(channel)

    def _take(self, channel: bytes, data: bytes) -> None:
        name = self._groups.get(channel)
        if name is not None:
            return self._receiver.take(name, data)
        self.presence.take(channel, data)

    async def place(self, name: str) -> Window:
        """Return where a group stands, without messages; it begins an epoch where it has none."""
        return await self._read(name, None, new_id())

    async def read(self, name: str, since: Optional[int]) -> Window:
        """Return the first messages after an offset, as many as a page holds; without one, none. It begins nothing."""
        return await self._read(name, since, '')

    async def _read(self, name: str, since: Optional[int], new_epoch: str) -> Window:
        session = await self._open_session()
        epoch, first, top, payloads = await session.ask(
            READ, [self._names.key('record', name), self._names.key('stream', name)],
            new_epoch, self._empty_ms(self._namespaces.of(name)), '' if since is None else since, PAGE_SIZE,
        )  # fmt: skip
        messages = [] if since is None else contiguous(decode_all(payloads), since, int(top))
        return Window(epoch.decode(), int(first), int(top), messages)


def server_of(url: str) -> Server:
    """Return where the Redis is that ``url`` names.

    :raises ConfigurationError: for a URL that cannot be used.
    """
    return SentinelServer(url) if urlsplit(url).scheme.endswith('+sentinel') else Server(url)


def decode_all(payloads: Iterable[bytes]) -> List[Incoming]:
    """Return the messages of a page, up to one that cannot be read."""
    messages: List[Incoming] = []
    try:
        for payload in payloads:
            messages.append(decode(payload))
    except ValueError:
        pass  # What is behind it is another page, and not whole.
    return messages
