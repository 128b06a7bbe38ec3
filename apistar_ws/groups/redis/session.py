"""Three connections to one Redis and one history, from the moment that all are there until one of them fails."""

import asyncio
import logging
from typing import Any, Awaitable, Callable, Coroutine, Dict, Iterable, List, Optional, Sequence, Union

from apistar.exceptions import ConfigurationError
from redis.exceptions import ReadOnlyError, ResponseError

from apistar_ws.groups.background import GRACE, all_done, start_task
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.payload import new_id
from apistar_ws.groups.redis.lines import Line, Subscriber, Wire
from apistar_ws.groups.redis.scripts import KEPT_LONGER_MS, OPEN, Names, Script
from apistar_ws.groups.redis.server import Server
from apistar_ws.log import RouteLog

log = RouteLog()

#: Seconds without a byte after which a connection counts as dead, and those that an answer to a probe has at least.
SILENCE, PROBE_TIMEOUT = 9.5, 4.0
#: Seconds after which a probe that has not come back ends the session, although the connections are alive.
LOST_PROBE = 60.0


class Session:
    """Three connections to one Redis: what is sent, what is asked, what comes.

    :param names: of keys and channels.
    :param timeout: seconds that an answer may take.
    :param take: called with the channel and the data of each message.
    """

    def __init__(self, names: Names, timeout: float, take: Callable[[bytes, bytes], None]) -> None:
        self._names = names
        self._timeout = timeout
        self._take = take
        self._failure: 'asyncio.Future[Exception]' = asyncio.get_running_loop().create_future()
        self._tasks: List['asyncio.Task[None]'] = []
        self._parts: List[Union[Line, Subscriber]] = []
        self._timer: Optional[asyncio.TimerHandle] = None
        #: By what is sent, when that was; it is removed when it comes back.
        self._probes: Dict[bytes, float] = {}
        self._probe_channel = names.channel('probe', new_id())
        self._all_back: Optional['asyncio.Future[None]'] = None
        #: The history of the server, and how often that has changed.
        self.token = ''
        self.generation = 0

    # Its beginning

    async def open(self, server: Server, seen: int) -> Dict[str, str]:
        """Connect to one server, and return what it says of itself.

        :param server: where it is.
        :param seen: the highest generation of a history that this process has seen.
        :raises Exception: if the server is not there, is none that can be used, or the connections reach two of them.
        """
        info: Dict[str, str] = await self._first(self._open(server, seen))
        return info

    async def _open(self, server: Server, seen: int) -> Dict[str, str]:
        self._tasks.append(start_task(server.watch(self.fail)))
        publishing, asking, subscribing = connections = await server.connections()
        info = await connected(connections)
        self.publishing = Line(publishing, self._timeout, self.fail)
        self.asking = Line(asking, self._timeout, self.fail)
        self.subscriber = Subscriber(subscribing, self._receive, self.fail)
        self._parts += (self.publishing, self.asking, self.subscriber)
        self._tasks += [start_task(self._work(part.run)) for part in self._parts]
        # Fails where nothing can be written, and passes at the limit of memory.
        keys = [self._names.key('history'), self._names.key('sessions')]
        token, self.generation = await self.publishing.whole_script(OPEN, keys, new_id(), seen, KEPT_LONGER_MS)
        self.token = token.decode()
        return info

    async def begin(self, channels: Sequence[bytes], timeout: float) -> None:
        """Subscribe, and return when what is sent by both other connections comes back.

        :raises Exception: if that is not so in time.
        """
        await self._first(self._begin(channels, timeout))

    async def _begin(self, channels: Sequence[bytes], timeout: float) -> None:
        await self.subscriber.subscribe([self._probe_channel, *channels], timeout)
        back = self._all_back = asyncio.get_running_loop().create_future()
        for line in (self.publishing, self.asking):
            line.send('PUBLISH', self._probe_channel, self._probe())
        if not await all_done([back], timeout):
            raise TimeoutError('what is sent to Redis does not come back')

    async def _first(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what ``work`` gives, unless the session fails before: nobody waits for that yet."""
        task = start_task(work)
        try:
            await asyncio.wait({task, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._failure.result()
            return task.result()
        finally:
            task.cancel()

    # Its use

    async def subscribe(self, channels: List[bytes]) -> None:
        """Return when what is sent to channels from now on comes here.

        :raises GroupsUnavailable: if that is not confirmed in time.
        """
        await self.subscriber.subscribe(channels, self._timeout)

    async def publish(self, script: Script, keys: Iterable[str], *args: Any) -> Any:
        """Return the answer of a script that sends; where it is late, the connection is not used any more.

        :raises GroupsUnavailable: if it has failed.
        """
        try:
            return await self._answer(self.publishing.script, script, keys, *args)
        except GroupsUnavailable as exc:
            if exc.maybe_sent:
                self.fail(TimeoutError('Redis did not answer within %g seconds' % self._timeout))
            raise

    async def ask(self, script: Script, keys: Iterable[str], *args: Any) -> Any:
        """Return the answer of a script; where it is late, only the caller fails.

        :raises GroupsUnavailable: if it has failed.
        """
        return await self._answer(self.asking.script, script, keys, *args)

    async def change(self, script: Script, keys: Iterable[str], *args: Any) -> Any:
        """Return the answer of a script that keeps its place among the others of this method.

        :raises GroupsUnavailable: if it has failed.
        """
        return await self._answer(self.asking.whole_script, script, keys, *args)

    async def _answer(
        self, call: Callable[..., Awaitable[Any]], script: Script, keys: Iterable[str], *args: Any
    ) -> Any:
        try:
            return await call(script, [self._names.key('history'), *keys], self.token, *args)
        except ResponseError as exc:
            raise self.refusal(exc) from None

    def refusal(self, exc: Exception, maybe_sent: bool = False) -> GroupsUnavailable:
        """Return what callers get for an error of Redis; one that all commands would get ends the session."""
        if isinstance(exc, ReadOnlyError) or ends_session(str(exc)):
            self.fail(exc)
        else:
            # The text is for the log, and not for clients.
            log.write(logging.WARNING, 'The engine of the groups has refused: %s', exc)
        return GroupsUnavailable('The engine of the groups has refused', maybe_sent)

    # Whether it is alive

    def _probe(self) -> bytes:
        probe, now = new_id().encode(), asyncio.get_running_loop().time()
        self._probes[probe] = now
        return probe

    def _receive(self, channel: bytes, data: bytes) -> None:
        if channel != self._probe_channel:
            return self._take(channel, data)
        self._probes.pop(data, None)
        if not self._probes and self._all_back is not None and not self._all_back.done():
            self._all_back.set_result(None)

    def probe(self) -> Sequence[bytes]:
        """Send a probe by the connection for questions; return channel and text of one to be sent by the other one."""
        loop = asyncio.get_running_loop()
        if any(loop.time() - sent_at > LOST_PROBE for sent_at in self._probes.values()):
            self.fail(TimeoutError('what is sent to Redis does not come back'))
        self.asking.send('PUBLISH', self._probe_channel, self._probe())
        for wire in self._wires:
            if wire.read_at > wire.probed_at:
                wire.probed_at = loop.time()
        if self._timer is None:
            self._check()
        return self._probe_channel, self._probe()

    @property
    def _wires(self) -> List[Wire]:
        return [part.wire for part in self._parts]

    def _check(self, is_sure: bool = False) -> None:
        """End the session if one of its connections is dead; look again for as long as a probe is unanswered."""
        loop, self._timer = asyncio.get_running_loop(), None
        waiting = [wire for wire in self._wires if wire.read_at <= wire.probed_at]
        deadline = min((max(wire.probed_at + PROBE_TIMEOUT, wire.read_at + SILENCE) for wire in waiting), default=None)
        if deadline is None:
            return
        if deadline > loop.time():
            self._timer = loop.call_at(deadline, self._check)
        elif is_sure:
            self.fail(TimeoutError('nothing comes from Redis'))
        else:
            # Where the event loop was blocked, what has come meanwhile is still to be read.
            self._timer = loop.call_later(GRACE, self._check, True)

    # Its end

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as exc:
            self.fail(exc)

    def fail(self, exc: Exception) -> None:
        """Note that it cannot be used any more."""
        if not self._failure.done():
            self._failure.set_result(exc)

    @property
    def failure(self) -> Optional[Exception]:
        """The reason why it cannot be used any more, if that is so."""
        return self._failure.result() if self._failure.done() else None

    async def failed(self) -> Exception:
        """Return why it cannot be used any more, once that is so."""
        return await self._failure

    async def close(self) -> None:
        """Close the connections."""
        self.fail(ConnectionError('The session was closed.'))
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for part in self._parts:
            await part.close()


def ends_session(text: str) -> bool:
    """Return whether an error of Redis stands for all commands: it is a replica, its disk is full, or the like."""
    return any(kind in text for kind in ('OTHERHISTORY', 'READONLY', 'MISCONF', 'NOREPLICAS'))


async def connected(connections: Sequence[Any]) -> Dict[str, str]:
    """Connect to one server, and return what it says of itself.

    :raises Exception: if it is not there, is none that can be used, or there are two; then no connection is left.
    """
    try:
        for connection in connections:
            await connection.connect()
        infos = [await info_of(connection) for connection in connections]
        check_server(infos[0])
        if len({(info.get('run_id'), info.get('role')) for info in infos}) > 1:
            raise ConnectionError('The connections have reached different servers.')
        return infos[0]
    except BaseException:
        for connection in connections:
            await connection.disconnect(nowait=True)
        raise


async def info_of(connection: Any) -> Dict[str, str]:
    """Return what the server of a connection says of itself."""
    await connection.send_packed_command(connection.pack_command('INFO'), check_health=False)
    return parse_info(await connection.read_response())


def parse_info(text: bytes) -> Dict[str, str]:
    """Return what INFO says, by name."""
    pairs = (line.partition(':') for line in text.decode('utf-8', 'replace').splitlines())
    return {name: value for name, _, value in pairs}


def check_server(info: Dict[str, str]) -> None:
    """Refuse a Redis on which groups cannot keep their promises.

    :raises ConfigurationError: saying why.
    """
    # As Redis calls it, and Valkey.
    mode = info.get('redis_mode') or info.get('server_mode')
    if mode == 'cluster':
        raise ConfigurationError(
            'GroupsComponent: this is a Redis Cluster, in which each message goes to every node. Give the URL of a '
            'single Redis.'
        )
    if mode == 'sentinel':
        raise ConfigurationError('GroupsComponent: this is a Sentinel. Give the URL of the Redis that it watches.')
    if info.get('role') != 'master':
        raise ConfigurationError('GroupsComponent: this Redis is a replica. Give the URL of its primary.')
