"""The connections to one run of Redis, from the moment that all of them are there until one of them fails."""

import asyncio
import contextlib
import logging
from collections import deque
from typing import Any, Awaitable, Callable, Coroutine, Deque, Dict, Iterable, List, Optional, Tuple

from apistar.exceptions import ConfigurationError
from redis.asyncio import ConnectionPool
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from apistar_ws.groups.background import GRACE, Turn, all_done, start_task
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.redis.scripts import Script
from apistar_ws.log import RouteLog

log = RouteLog()

#: Channels that are subscribed by one command.
CHANNELS_PER_COMMAND = 500

Failed = Callable[[Exception], None]


class Line:
    """One connection, on which commands are answered in the order in which they were given.

    A caller that is cancelled leaves its answer behind and nobody else notices.

    :param connection: redis-py's, connected.
    :param timeout: seconds that an answer may take; after that the connection is not used any more.
    :param failed: is told what has gone wrong.
    """

    def __init__(self, connection: Any, timeout: float, failed: Failed) -> None:
        self.connection = connection
        self._timeout = timeout
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        #: Who waits for an answer, and until when.
        self._replies: Deque[Tuple['asyncio.Future[Any]', float]] = deque()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._overdue: Optional['asyncio.Future[Any]'] = None
        self._unsent: List[bytes] = []
        self._is_writing = False
        self._is_closed = False

    async def call(self, *args: Any) -> Any:
        """Return the answer to a command.

        :raises ResponseError: if that is an error.
        :raises GroupsUnavailable: if there is none; then the command may have been carried out.
        """
        if self._is_closed:
            raise GroupsUnavailable()
        reply: 'asyncio.Future[Any]' = self._loop.create_future()
        self._replies.append((reply, self._loop.time() + self._timeout))
        if self._timer is None:
            self._look_later()
        self.write(*args)
        answer = await reply
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _look_later(self) -> None:
        self._timer = self._loop.call_at(self._replies[0][1], self._look)

    def _look(self) -> None:
        """Give the connection up if the oldest answer is overdue."""
        self._timer = None
        if not self._replies:
            return
        reply, deadline = self._replies[0]
        if deadline > self._loop.time():
            self._look_later()
        elif self._overdue is not reply:
            # Where the event loop was blocked, the answer is still to be read.
            self._overdue = reply
            self._timer = self._loop.call_later(GRACE, self._look)
        else:
            self._failed(TimeoutError('Redis did not answer within %g seconds' % self._timeout))

    def write(self, *args: Any) -> None:
        """Send a command, after those that were sent before; those of one moment together."""
        self._unsent += self.connection.pack_command(*args)
        if not self._is_writing:
            self._is_writing = True
            # In a task of its own: redis-py gives a connection up whose caller is cancelled.
            start_task(self._write())

    async def _write(self) -> None:
        try:
            while self._unsent and not self._is_closed:
                unsent, self._unsent = self._unsent, []
                if not self.connection.is_connected:
                    # redis-py would connect again, to whoever answers, and nobody would close that connection.
                    raise ConnectionError('The connection to Redis was lost.')
                await self.connection.send_packed_command(unsent, check_health=False)
        except (RedisError, OSError) as exc:
            self._failed(exc)
        finally:
            self._is_writing = False

    async def run(self) -> None:
        """Give each answer to whoever waits for it, until the connection fails."""
        while True:
            try:
                answer = await self.connection.read_response()
            except ResponseError as exc:
                answer = exc
            reply, _ = self._replies.popleft()
            if not reply.done():
                reply.set_result(answer)

    async def script(self, script: Script, keys: Iterable[str], *args: Any) -> Any:
        """Return what a script returns; where Redis does not know it, it is sent whole.

        :raises GroupsUnavailable: if it has failed.
        """
        keys = list(keys)
        try:
            return await self.call('EVALSHA', script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self.whole_script(script, keys, *args)
        except ResponseError as exc:
            raise self.refused(exc) from None

    async def whole_script(self, script: Script, keys: Iterable[str], *args: Any) -> Any:
        """Return what a script returns; sent whole, it keeps its place among the commands.

        :raises GroupsUnavailable: if it has failed.
        """
        keys = list(keys)
        try:
            return await self.call('EVAL', script.text, len(keys), *keys, *args)
        except ResponseError as exc:
            raise self.refused(exc) from None

    def refused(self, exc: ResponseError) -> GroupsUnavailable:
        """Return what callers are told of an error of Redis; one that cannot be written to counts as away."""
        if isinstance(exc, ReadOnlyError) or refuses_writes(str(exc)):
            self._failed(exc)
        return refusal(str(exc))

    async def close(self) -> None:
        """Close the connection; who waits for an answer learns that there is none."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._replies:
            reply, _ = self._replies.popleft()
            if not reply.done():
                reply.set_result(GroupsUnavailable('The engine of the groups went away', maybe_sent=True))
        with contextlib.suppress(RedisError, OSError):
            await self.connection.disconnect(nowait=True)


class Subscriber:
    """The connection on which everything comes that others send.

    :param connection: redis-py's, connected.
    :param take: takes what comes on a channel.
    :param failed: is told what has gone wrong.
    """

    def __init__(self, connection: Any, take: Callable[[bytes, bytes], None], failed: Failed) -> None:
        self._line = Line(connection, 0, failed)
        self._failed = failed
        self._take = take
        self._confirming: Dict[bytes, Deque['asyncio.Future[None]']] = {}

    async def subscribe(self, channels: List[bytes], timeout: float) -> None:
        """Return when all that is sent to these channels comes here.

        :raises GroupsUnavailable: if that is not confirmed in time.
        """
        loop = asyncio.get_running_loop()
        futures: List['asyncio.Future[None]'] = [loop.create_future() for _ in channels]
        for channel, future in zip(channels, futures):
            self._confirming.setdefault(channel, deque()).append(future)
        for begin in range(0, len(channels), CHANNELS_PER_COMMAND):
            self._line.write('SUBSCRIBE', *channels[begin : begin + CHANNELS_PER_COMMAND])
        if not await all_done(futures, timeout):
            raise self._unconfirmed(timeout)
        if any(future.cancelled() for future in futures):
            raise GroupsUnavailable()

    def _unconfirmed(self, timeout: float) -> GroupsUnavailable:
        self._failed(TimeoutError('Redis did not confirm a subscription within %g seconds' % timeout))
        return GroupsUnavailable('The engine of the groups did not answer in time')

    def unsubscribe(self, channel: bytes) -> None:
        """Let nothing more come on a channel."""
        self._line.write('UNSUBSCRIBE', channel)

    async def run(self) -> None:
        """Take what comes, until the connection fails."""
        turn = Turn()
        read = self._line.connection.read_response
        while True:
            kind, channel, data = await read()
            if kind == b'message':
                self._take(channel, data)
            elif kind == b'subscribe':
                self._confirm(channel)
            if turn.is_over:
                await turn.give()

    def _confirm(self, channel: bytes) -> None:
        waiting = self._confirming[channel]
        future = waiting.popleft()
        if not waiting:
            del self._confirming[channel]
        future.set_result(None)

    async def close(self) -> None:
        """Close the connection."""
        for waiting in self._confirming.values():
            for future in waiting:
                future.cancel()
        await self._line.close()


class Session:
    """Three connections to one Redis: what is sent, what is asked, what comes.

    :param pool: makes connections, with all that the URL says.
    :param timeout: seconds that an answer may take.
    :param take: takes what comes on a channel.
    """

    def __init__(self, pool: ConnectionPool, timeout: float, take: Callable[[bytes, bytes], None]) -> None:
        self._failure: 'asyncio.Future[Exception]' = asyncio.get_running_loop().create_future()
        make: Callable[[], Any] = pool.make_connection
        self._connections = [make() for _ in range(3)]
        self.publishing = Line(self._connections[0], timeout, self.fail)
        self.asking = Line(self._connections[1], timeout, self.fail)
        self.subscriber = Subscriber(self._connections[2], take, self.fail)
        self._tasks: List['asyncio.Task[None]'] = []
        #: The run of Redis that it is connected to.
        self.run = ''

    async def open(self) -> Dict[str, str]:
        """Connect, and return what Redis says of itself.

        :raises RedisError: or ``OSError``, if it is not there.
        """
        for connection in self._connections:
            await connection.connect()
        for work in (self.publishing.run, self.asking.run, self.subscriber.run):
            self._tasks.append(start_task(self._work(work)))
        info = parse_info(await self.first(self.asking.call('INFO')))
        self.run = info.get('run_id', '')
        return info

    async def first(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what ``work`` gives, unless the session fails before: nobody watches it yet.

        :raises Exception: why it has failed, or what ``work`` raises.
        """
        task = start_task(work)
        try:
            await asyncio.wait({task, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._failure.result()
            return task.result()
        finally:
            task.cancel()

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
        """Why it cannot be used any more, if that is so."""
        return self._failure.result() if self._failure.done() else None

    @property
    def has_failed(self) -> bool:
        """Whether it cannot be used any more."""
        return self._failure.done()

    async def failed(self) -> Exception:
        """Return why it cannot be used any more, once that is so."""
        return await self._failure

    async def close(self) -> None:
        """Leave nothing of it."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for part in (self.publishing, self.asking, self.subscriber):
            await part.close()


def refusal(text: str, maybe_sent: bool = False) -> GroupsUnavailable:
    """Return what callers are told of an error of Redis: its text is for the log, and not for clients."""
    log.tell(logging.WARNING, 'The engine of the groups has refused: %s', text)
    return GroupsUnavailable('The engine of the groups has refused', maybe_sent)


def refuses_writes(text: str) -> bool:
    """Tell whether an error of Redis stands for all that is written: it is a replica, its disk is full, or the like."""
    return any(kind in text for kind in ('READONLY', 'MISCONF', 'NOREPLICAS'))


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
    if info.get('role') == 'slave':
        raise ConfigurationError('GroupsComponent: this Redis is a replica. Give the URL of its primary.')


def is_evicting(info: Dict[str, str]) -> Optional[str]:
    """Return the policy by which a Redis drops keys of groups at its memory limit, or None."""
    policy = info.get('maxmemory_policy', '')
    return policy if policy.startswith('allkeys') else None
