"""The connections of a session: one that answers commands, and one on which everything comes that others send."""

import asyncio
import contextlib
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Dict, Iterable, List

from redis.exceptions import NoScriptError, RedisError, ResponseError

from apistar_ws.groups.background import TimeSlice, all_done, start_task
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.redis.scripts import Script

#: Channels that are subscribed by one command.
CHANNELS_PER_COMMAND = 500

OnFailure = Callable[[Exception], None]


class Wire:
    """One connection of redis-py, which connects once: what is written after it dropped fails.

    :param connection: redis-py's, connected.
    :param on_failure: called with the reason when it cannot be used any more.
    """

    def __init__(self, connection: Any, on_failure: OnFailure) -> None:
        self.connection = connection
        self._on_failure = on_failure
        self._unsent: List[bytes] = []
        self._is_writing = False
        self.is_closed = False
        #: When bytes were read last, by the clock of the event loop.
        self.read_at = 0.0
        #: When the first probe was sent since.
        self.probed_at = 0.0
        self.read: Callable[[], Awaitable[Any]] = connection.read_response
        self._note_reads()

    def _note_reads(self) -> None:
        """Note each arrival of bytes: half an answer is a sign of life too."""
        reader, time = self.connection._reader, asyncio.get_running_loop().time
        feed_data, self.read_at = reader.feed_data, time()

        def feed(data: bytes) -> None:
            self.read_at = time()
            feed_data(data)

        reader.feed_data = feed

    def write(self, *args: Any) -> None:
        """Send a command, after those that were sent before; those of one moment together."""
        self._unsent += self.connection.pack_command(*args)
        if not self._is_writing:
            self._is_writing = True
            # In a task of its own: redis-py gives a connection up whose caller is cancelled.
            start_task(self._write())

    async def _write(self) -> None:
        try:
            while self._unsent and not self.is_closed:
                unsent, self._unsent = self._unsent, []
                if not self.connection.is_connected:
                    # redis-py would connect again, to whoever answers, and nobody would close that connection.
                    raise ConnectionError('The connection to Redis was lost.')
                await self.connection.send_packed_command(unsent, check_health=False)
        except (RedisError, OSError) as exc:
            self._on_failure(exc)
        finally:
            self._is_writing = False

    async def close(self) -> None:
        """Close the connection."""
        self.is_closed = True
        with contextlib.suppress(RedisError, OSError):
            await self.connection.disconnect(nowait=True)


class Line:
    """A connection on which commands are answered in the order in which they were given.

    A caller that is cancelled, or does not wait any longer, leaves its answer behind, which others do not notice.

    :param connection: redis-py's, connected.
    :param timeout: seconds that an answer may take.
    :param on_failure: called with the reason when the connection cannot be used any more.
    """

    def __init__(self, connection: Any, timeout: float, on_failure: OnFailure) -> None:
        self.wire = Wire(connection, on_failure)
        self._timeout = timeout
        #: Who waits for an answer.
        self._replies: Deque['asyncio.Future[Any]'] = deque()

    def send(self, *args: Any) -> 'asyncio.Future[Any]':
        """Send a command, and return its answer when there is one.

        :raises GroupsUnavailable: if the connection is closed.
        """
        if self.wire.is_closed:
            raise GroupsUnavailable()
        reply: 'asyncio.Future[Any]' = asyncio.get_running_loop().create_future()
        self._replies.append(reply)
        self.wire.write(*args)
        return reply

    async def call(self, *args: Any) -> Any:
        """Return the answer to a command.

        :raises ResponseError: if that is an error.
        :raises GroupsUnavailable: if there is none in time; then the command may have been carried out.
        """
        reply = self.send(*args)
        if not await all_done([reply], self._timeout):
            raise GroupsUnavailable('The engine of the groups did not answer in time', maybe_sent=True)
        answer = reply.result()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def script(self, script: Script, keys: Iterable[str], *args: Any) -> Any:
        """Return the answer of a script; where Redis does not know it, it is sent whole."""
        keys = list(keys)
        try:
            return await self.call('EVALSHA', script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self.whole_script(script, keys, *args)

    async def whole_script(self, script: Script, keys: Iterable[str], *args: Any) -> Any:
        """Return the answer of a script; sent whole, it keeps its place among the commands."""
        keys = list(keys)
        return await self.call('EVAL', script.text, len(keys), *keys, *args)

    async def run(self) -> None:
        """Pass each answer to its caller, until the connection fails."""
        while True:
            try:
                answer = await self.wire.read()
            except ResponseError as exc:
                answer = exc
            self._replies.popleft().set_result(answer)

    async def close(self) -> None:
        """Close the connection; who waits for an answer gets ``GroupsUnavailable``."""
        for reply in self._replies:
            reply.set_result(GroupsUnavailable('The engine of the groups went away', maybe_sent=True))
        self._replies.clear()
        await self.wire.close()


class Subscriber:
    """The connection on which everything comes that others send.

    :param connection: redis-py's, connected.
    :param take: called with the channel and the data of each message.
    :param on_failure: called with the reason when the connection cannot be used any more.
    """

    def __init__(self, connection: Any, take: Callable[[bytes, bytes], None], on_failure: OnFailure) -> None:
        self.wire = Wire(connection, on_failure)
        self._take = take
        self._confirming: Dict[bytes, Deque['asyncio.Future[None]']] = {}

    async def subscribe(self, channels: List[bytes], timeout: float) -> None:
        """Return when all that is sent to these channels comes here.

        :raises GroupsUnavailable: if that is not confirmed in time.
        """
        for begin in range(0, len(channels), CHANNELS_PER_COMMAND):
            await self._subscribe(channels[begin : begin + CHANNELS_PER_COMMAND], timeout)

    async def _subscribe(self, channels: List[bytes], timeout: float) -> None:
        loop = asyncio.get_running_loop()
        futures: List['asyncio.Future[None]'] = [loop.create_future() for _ in channels]
        for channel, future in zip(channels, futures):
            self._confirming.setdefault(channel, deque()).append(future)
        self.wire.write('SUBSCRIBE', *channels)
        if not await all_done(futures, timeout):
            raise GroupsUnavailable('The engine of the groups did not answer in time')
        if any(future.cancelled() for future in futures):
            raise GroupsUnavailable()

    def unsubscribe(self, channel: bytes) -> None:
        """Stop receiving what is sent to a channel."""
        self.wire.write('UNSUBSCRIBE', channel)

    async def run(self) -> None:
        """Take what comes, until the connection fails."""
        turn, read = TimeSlice(), self.wire.read
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
        """Close the connection; who waits for a confirmation gets ``GroupsUnavailable``."""
        for waiting in self._confirming.values():
            for future in waiting:
                future.cancel()
        await self.wire.close()
