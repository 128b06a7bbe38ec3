"""The engine of many processes and machines: Redis or Valkey."""

import asyncio
import json
import logging
import random
from typing import Any, Dict, Iterable, List, Optional, Sequence
from urllib.parse import parse_qs, urlsplit

from apistar.exceptions import ConfigurationError
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apistar_ws.groups.background import all_done, finished, start_task
from apistar_ws.groups.engine import Member, Receiver, Result, Window, whole
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.payload import Incoming, Outgoing, Position, decode, new_id
from apistar_ws.groups.redis.presence import RedisPresence
from apistar_ws.groups.redis.scripts import HISTORY, KEPT_LONGER_MS, PUBLISH, READ, TICK, Names
from apistar_ws.groups.redis.session import Session, check_server, is_evicting, refusal, refuses_writes
from apistar_ws.groups.settings import GroupSettings, Namespaces
from apistar_ws.interruption import TimeLimit
from apistar_ws.log import RouteLog

logger = logging.getLogger('apistar_ws')

#: Seconds in which all connections have to be there.
CONNECT_TIMEOUT = 5.0
#: Seconds between two tries, at first and at last; a random part of it, since other processes try too.
FIRST_DELAY, LAST_DELAY = 0.05, 0.5
#: Seconds after which a session that fails was none that fails at once.
SETTLED = 2.0
#: Seconds between two ticks at most, and in which the probe of one has to come back.
TICK_INTERVAL = 5.0
PROBE_TIMEOUT = 4.0
#: Ticks in which all that is used is renewed, and how many of it at least in one.
TICKS_TO_RENEW = 120
LEAST_RENEWED = 500
#: Seconds that it may take to leave the list of members at the end.
TIME_TO_RETIRE = 0.3
#: What of redis-py's connections is not to be set otherwise.
FIXED = frozenset(
    ['protocol', 'decode_responses', 'encoding', 'socket_timeout', 'socket_connect_timeout', 'health_check_interval',
     'retry_on_timeout', 'max_connections', 'client_name']
)  # fmt: skip
#: Seconds before another try, where Redis is there and refuses.
PAUSE = 1.0


class RedisEngine:
    """Carries messages between all processes that have the same Redis and the same prefix.

    :param url: as redis-py has it: ``redis://``, ``rediss://`` or ``unix://``.
    :param namespaces: the settings of groups, and of the engine.
    :param receiver: is told what comes.
    """

    def __init__(self, url: str, namespaces: Namespaces, receiver: Receiver) -> None:
        shared = namespaces.shared
        self._pool = connection_pool(url)
        self._names = Names(shared.prefix, int(self._pool.connection_kwargs.get('db') or 0))
        self.presence = RedisPresence(self._names, shared.lease, receiver.present)
        self._interval = min(TICK_INTERVAL, shared.lease / 2)
        self._timeout = shared.publish_timeout
        self._namespaces = namespaces
        self._receiver = receiver
        self._log = RouteLog()
        self.state = 'stopped'
        self._session: Optional[Session] = None
        self._task: Optional['asyncio.Task[None]'] = None
        #: Done when the first try has an outcome, and when it is open again.
        self._started: Optional['asyncio.Future[None]'] = None
        self._returned: Optional['asyncio.Future[None]'] = None
        #: Whether it stays although nobody uses it, and whether somebody did since the last tick.
        self.is_held = False
        self._is_used = False
        #: Whether it is ending because nobody uses it, and whether it was stopped for good.
        self._is_ending = False
        self._is_over = False
        self._refusal: Optional[ConfigurationError] = None
        #: Channels that are subscribed, and the group of each.
        self._groups: Dict[bytes, str] = {}
        self._watched: Dict[bytes, str] = {}
        self._renewed = 0
        #: Set for a tick before its time.
        self._tick_now = asyncio.Event()
        self._probe: Optional['asyncio.Future[None]'] = None
        self._probe_channel = self._names.channel('probe', new_id())

    # Its life

    async def ready(self) -> None:
        """Start, if need be, and return when it is open.

        :raises ConfigurationError: for a Redis that cannot be used.
        :raises GroupsUnavailable: if it is away.
        """
        if self._is_ending and self._task is not None:
            await asyncio.wait({self._task})
        if self.state == 'open':
            return
        if self._is_over:
            raise GroupsUnavailable('The groups were stopped')
        if self._task is None:
            self.state = 'starting'
            self._refusal = None
            self._started = asyncio.get_running_loop().create_future()
            self._task = start_task(self._run())
        if self.state == 'starting':
            assert self._started is not None
            await asyncio.wait({self._started})
        if self._refusal is not None:
            raise ConfigurationError(str(self._refusal))
        if self.state != 'open':
            raise GroupsUnavailable()

    async def back(self) -> None:
        """Return when it is worth another try."""
        if self.state == 'open':
            return await asyncio.sleep(PAUSE)
        if self._returned is None:
            self._returned = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._returned})

    async def stop(self) -> None:
        """Leave nothing running, and nobody listed."""
        self._is_over = True
        task, session = self._task, self._session
        if session is not None and not session.has_failed:
            await asyncio.wait({start_task(self.presence.leave(session))}, timeout=TIME_TO_RETIRE)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        """Connect, again and again, until it is stopped."""
        delay = 0.0
        try:
            while True:
                session = Session(self._pool, self._timeout, self._take)
                began = asyncio.get_running_loop().time()
                try:
                    await self._open(session)
                    failure = await self._serve(session)
                    if self._is_ending:
                        return await self.presence.leave(session)
                except ConfigurationError as exc:
                    if self.state == 'starting':
                        self._refusal = exc
                        return
                    failure = exc
                except (RedisError, OSError, GroupsUnavailable) as exc:
                    failure = session.failure or exc
                finally:
                    self._session = None
                    await finished(start_task(session.close()))
                self._note_away(failure)
                if asyncio.get_running_loop().time() - began > SETTLED:
                    delay = 0.0
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(max(2 * delay, FIRST_DELAY), LAST_DELAY)
        finally:
            self._change('stopped')
            self._task, self._is_ending = None, False

    async def _open(self, session: Session) -> None:
        with TimeLimit(CONNECT_TIMEOUT):
            info = await session.open()
            check_server(info)
            # Fails where nothing can be written, and passes at the limit of memory.
            await session.first(session.publishing.call('PEXPIRE', self._names.key('leases'), KEPT_LONGER_MS))
        if is_evicting(info) and self.state == 'starting':
            logger.warning(
                'GroupsComponent: Redis has the policy %s, by which it may drop the keys of groups: members are told '
                'then that messages were lost. Use noeviction or volatile-ttl.', is_evicting(info),
            )  # fmt: skip
        await session.subscriber.subscribe([self._probe_channel, *self._groups, *self._watched], CONNECT_TIMEOUT)

    async def _serve(self, session: Session) -> Exception:
        """Use ``session`` until it fails, and return why."""
        if self.state == 'away':
            self._log.tell(logging.INFO, 'The engine of the groups is back.')
        self._session = session
        ticking = start_task(self._tick_forever(session))
        self._change('open')
        self._receiver.returned()
        try:
            return await session.failed()
        finally:
            ticking.cancel()
            await asyncio.wait({ticking})

    def _note_away(self, failure: Exception) -> None:
        if self.state != 'away':
            reason = str(failure).rstrip('.') or type(failure).__name__
            message = 'The engine of the groups is away: %s. Members stay; what is sent now fails.'
            self._log.tell(logging.WARNING, message, reason)
            self._change('away')

    def _change(self, state: str) -> None:
        """Change the state, and tell who waits for that."""
        was_open, self.state = self.state == 'open', state
        if was_open:
            self._receiver.gone_away()
        if self._started is not None and not self._started.done():
            self._started.set_result(None)
        if self._returned is not None and state != 'away':
            self._returned.set_result(None)
            self._returned = None

    async def _open_session(self) -> Session:
        await self.ready()
        self._is_used = True
        if self._session is None or self._session.has_failed:
            raise GroupsUnavailable()
        return self._session

    def _record_ms(self, settings: GroupSettings) -> int:
        return int(settings.history_ttl * 1000) + KEPT_LONGER_MS

    # Messages

    async def publish(self, batch: Sequence[Outgoing]) -> List[Result]:
        """Send messages, in order."""
        session = await self._open_session()
        keys: List[str] = []
        args: List[Any] = [session.run]
        for outgoing in batch:
            name, settings = outgoing.name, self._namespaces.of(outgoing.name)
            keys += (self._names.key('record', name), self._names.key('stream', name))
            args += (
                new_id(), self._names.channel('group', name), settings.history, int(settings.history_ttl * 1000),
                self._record_ms(settings), outgoing.head, outgoing.tail,
            )  # fmt: skip
        answers = await session.publishing.script(PUBLISH, keys, *args)
        return [self._result(session, answer) for answer in answers]

    def _result(self, session: Session, answer: bytes) -> Result:
        if answer[:1] != b'+':
            text = answer[1:].decode('utf-8', 'replace')
            if refuses_writes(text):
                session.fail(RedisError(text))
            return refusal(text, answer[:1] == b'?')
        epoch, _, offset = answer[1:].decode().partition('.')
        return Position(epoch, int(offset)) if epoch else None

    async def subscribe(self, name: str) -> None:
        """Return when what is sent to the group from now on comes here."""
        session = await self._open_session()
        channel = self._names.channel('group', name)
        self._groups[channel] = name
        await session.subscriber.subscribe([channel], self._timeout)

    def unsubscribe(self, name: str) -> None:
        """Let it come no more."""
        self._drop(self._groups, self._names.channel('group', name))

    def _drop(self, channels: Dict[bytes, str], channel: bytes) -> None:
        if channels.pop(channel, None) is not None and self._session is not None:
            self._session.subscriber.unsubscribe(channel)

    def _take(self, channel: bytes, data: bytes) -> None:
        name = self._groups.get(channel)
        if name is not None:
            return self._receiver.take(name, data)
        name = self._watched.get(channel)
        if name is not None:
            self._take_change(name, data)
        elif channel == self._probe_channel and self._probe is not None and not self._probe.done():
            self._probe.set_result(None)

    def _take_change(self, name: str, data: bytes) -> None:
        try:
            joined, left = json.loads(data)
            members = [Member(*entry[:3]) for entry in joined]
        except (ValueError, TypeError):
            # Of another version, say.
            return self._receiver.refresh(name)
        self._receiver.take_change(name, members, left)

    async def read(self, name: str, since: Optional[int]) -> Window:
        """Return the messages after an offset, or none for None."""
        session = await self._open_session()
        epoch, top, entries = await session.asking.script(
            READ, [self._names.key('record', name), self._names.key('stream', name)],
            session.run, new_id(), self._record_ms(self._namespaces.of(name)), '' if since is None else since,
        )  # fmt: skip
        if since is None:
            return Window(epoch.decode(), int(top), [])
        return Window(epoch.decode(), int(top), whole(decode_entries(entries), since, int(top)))

    async def history(self, name: str, since: Optional[Position], limit: Optional[int]) -> Window:
        """Return what the window holds after a position, or of all of it the last ones."""
        session = await self._open_session()
        epoch, top, entries = await session.asking.script(
            HISTORY, [self._names.key('record', name), self._names.key('stream', name)],
            session.run, '' if since is None else since.offset, '' if limit is None else limit,
        )  # fmt: skip
        messages = decode_entries(entries)
        if since is None:
            return Window(epoch.decode(), int(top), messages[::-1])
        end = int(top) if limit is None else min(int(top), since.offset + limit)
        return Window(epoch.decode(), int(top), whole(messages, since.offset, end))

    # Members

    async def watch(self, name: str) -> None:
        """Return when changes of the members come here."""
        session = await self._open_session()
        channel = self._names.channel('members', name)
        self._watched[channel] = name
        await session.subscriber.subscribe([channel], self._timeout)

    def unwatch(self, name: str) -> None:
        """Let them come no more."""
        self._drop(self._watched, self._names.channel('members', name))

    async def announce(self, name: str, members: Iterable[Member]) -> None:
        """Add members of this process."""
        await self.presence.announce(await self._open_session(), name, members)

    async def withdraw(self, name: str, ids: Sequence[str]) -> None:
        """Remove members of this process."""
        await self.presence.withdraw(await self._open_session(), name, ids)

    async def members(self, name: str, limit: Optional[int]) -> List[Member]:
        """Return the members in all processes, or so many of them."""
        return await self.presence.members(await self._open_session(), name, limit)

    async def count(self, name: str) -> int:
        """Return how many there are."""
        return await self.presence.count(await self._open_session(), name)

    # What keeps it alive

    async def _tick_forever(self, session: Session) -> None:
        """Renew what is used, and see that what is sent also comes; it is the only thing that an idle process does."""
        try:
            await self.presence.take_lease(session)
            self._receiver.refresh()
            while True:
                self._is_used = False
                await self._until_tick()
                if not (self.is_held or self._is_used or self._groups or self._watched):
                    self._is_ending = True
                    return session.fail(Unused())
                if not await self._tick(session):
                    await self.presence.take_lease(session)
        except Exception as exc:
            # Whatever it is: without ticks the lease runs out.
            session.fail(exc)

    async def _until_tick(self) -> None:
        timer = asyncio.get_running_loop().call_later(self._interval, self._tick_now.set)
        try:
            await self._tick_now.wait()
        finally:
            timer.cancel()
            self._tick_now.clear()

    async def _tick(self, session: Session) -> bool:
        names, lease = self._names, self.presence.lease
        self._probe = asyncio.get_running_loop().create_future()
        used: List[Any] = []
        for name in self._to_renew():
            settings = self._namespaces.of(name)
            used += (name, self._record_ms(settings) if settings.history else 0)
        alive = await session.publishing.script(
            TICK, [names.key('leases'), names.key('lease', lease), names.key('groups', lease)],
            names.prefix, lease, self.presence.lease_ms, KEPT_LONGER_MS,
            self._probe_channel, b'', names.channel('members', ''), *used,
        )  # fmt: skip
        if not await all_done([self._probe], PROBE_TIMEOUT):
            session.fail(TimeoutError('what is sent to Redis does not come back'))
        return bool(alive)

    def _to_renew(self) -> List[str]:
        """Return the groups whose turn it is."""
        names = list(self._groups.values())
        count = max(LEAST_RENEWED, -(-len(names) // TICKS_TO_RENEW))
        if self._renewed >= len(names):
            self._renewed = 0
        begin, self._renewed = self._renewed, self._renewed + count
        return names[begin : begin + count]


class Unused(Exception):
    """Ends a session that nobody uses, where no lifespan holds it."""


def connection_pool(url: str) -> ConnectionPool:
    """Return what makes connections to ``url``, with every default of redis-py given, since they change.

    :raises ConfigurationError: for a URL that is none of a single Redis; without the URL, which may hold a password.
    """
    try:
        fixed = FIXED.intersection(parse_qs(urlsplit(url).query))
        if fixed:
            raise ConfigurationError('GroupsComponent: the URL sets %s, which is not for it to set.' % ', '.join(fixed))
        return ConnectionPool.from_url(
            url, protocol=2, decode_responses=False, socket_timeout=None, socket_connect_timeout=CONNECT_TIMEOUT,
            health_check_interval=0, retry=Retry(NoBackoff(), 0), retry_on_error=[], client_name='apistar-ws',
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError):
        raise ConfigurationError(
            'GroupsComponent: the URL is not one of redis-py for a single Redis: redis://, rediss:// or unix://, '
            'and a Sentinel has none.'
        ) from None


def decode_entries(entries: Iterable[Any]) -> List[Incoming]:
    """Return the messages of a stream; nothing where one of them cannot be read, so that they do not count as whole."""
    try:
        return [decode(fields[1]) for _, fields in entries]
    except ValueError:
        return []
