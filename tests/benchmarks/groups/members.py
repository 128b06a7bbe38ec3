"""Members whose sends are fake, in one process, and how each contender gives them what is sent to all."""

import asyncio
import contextlib
import itertools
from typing import Any, AsyncIterator, Awaitable, Callable, List, Optional, Sequence

from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.channels.backends.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
from redis.asyncio import Redis

from apistar_ws import Groups, GroupsComponent

ROOM = 'room:lobby'
TEXT = '{"user": "ann", "text": "Hello, everybody! This is a message of some length."}'
#: Messages that are kept, of those contenders that keep some.
HISTORY = 100
INFO = {'name': 'ann'}

Send = Callable[[Any], Awaitable[None]]
#: Sends some texts to all members, one after the other; they may still be on their way when it returns.
Broadcast = Callable[[Sequence[str]], Awaitable[None]]
prefixes = itertools.count(1)


class Crowd:
    """The members: takes what is sent to them, and tells when all has come."""

    def __init__(self) -> None:
        self.left = 0
        self.done: 'asyncio.Future[None]' = asyncio.get_running_loop().create_future()

    def expect(self, count: int) -> 'asyncio.Future[None]':
        """Return what is done when so many sends have been called."""
        self.left = count
        self.done = asyncio.get_running_loop().create_future()
        return self.done

    def member(self) -> Send:
        """Return the fake send of one more member."""

        async def send(message: Any) -> None:
            self.left -= 1
            if not self.left:
                self.done.set_result(None)

        return send


# The contenders


@contextlib.asynccontextmanager
async def bare_loop(sends: Sequence[Send], url: Optional[str] = None) -> AsyncIterator[Broadcast]:
    """Await one member after the other."""

    async def broadcast(texts: Sequence[str]) -> None:
        for text in texts:
            for send in sends:
                await send(text)

    yield broadcast


@contextlib.asynccontextmanager
async def gathered(sends: Sequence[Send], url: Optional[str] = None) -> AsyncIterator[Broadcast]:
    """Await all members at once."""

    async def broadcast(texts: Sequence[str]) -> None:
        for text in texts:
            await asyncio.gather(*[send(text) for send in sends])

    yield broadcast


@contextlib.asynccontextmanager
async def started_groups(url: Optional[str] = None, **options: Any) -> AsyncIterator[Groups]:
    """Supply groups that share nothing with those of another contender."""
    component = GroupsComponent(url, prefix='bench%d' % next(prefixes), **options)
    await component.on_startup()
    try:
        yield component.resolve()
    finally:
        await component.on_shutdown()


@contextlib.asynccontextmanager
async def ours(sends: Sequence[Send], url: Optional[str] = None, **options: Any) -> AsyncIterator[Broadcast]:
    """Use groups."""
    async with started_groups(url, **options) as groups, contextlib.AsyncExitStack() as stack:
        for send in sends:
            await stack.enter_async_context(groups.join(ROOM, send, info=INFO))

        async def broadcast(texts: Sequence[str]) -> None:
            for text in texts:
                groups.send(ROOM, text)

        yield broadcast


@contextlib.asynccontextmanager
async def ours_with_history(sends: Sequence[Send], url: Optional[str] = None) -> AsyncIterator[Broadcast]:
    """Use groups that keep messages."""
    async with ours(sends, url, history=HISTORY) as broadcast:
        yield broadcast


def memory_backend(redis: Any) -> Any:
    """Return Litestar's backend of one process."""
    return MemoryChannelsBackend()


def pubsub_backend(redis: Any) -> Any:
    """Return Litestar's backend that publishes, and keeps nothing."""
    return RedisChannelsPubSubBackend(redis=redis)


def stream_backend(redis: Any) -> Any:
    """Return Litestar's backend that keeps messages."""
    return RedisChannelsStreamBackend(HISTORY, redis=redis, key_prefix='bench%d' % next(prefixes))


@contextlib.asynccontextmanager
async def redis_client(url: Optional[str]) -> AsyncIterator[Any]:
    """Supply a client with redis-py's defaults, or None without a URL."""
    if url is None:
        yield None
        return
    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def started_channels(make_backend: Callable[[Any], Any], url: Optional[str]) -> AsyncIterator[ChannelsPlugin]:
    """Supply Litestar's channels."""
    async with redis_client(url) as client:
        async with ChannelsPlugin(make_backend(client), arbitrary_channels_allowed=True) as plugin:
            yield plugin


@contextlib.asynccontextmanager
async def litestar(
    make_backend: Callable[[Any], Any], sends: Sequence[Send], url: Optional[str] = None
) -> AsyncIterator[Broadcast]:
    """Use Litestar's channels, by the task that they have for each member."""
    name = 'lobby%d' % next(prefixes)
    async with started_channels(make_backend, url) as plugin, contextlib.AsyncExitStack() as stack:
        for send in sends:
            subscriber = await stack.enter_async_context(plugin.start_subscription([name]))
            await stack.enter_async_context(subscriber.run_in_background(send, join=False))

        async def broadcast(texts: Sequence[str]) -> None:
            for text in texts:
                plugin.publish(text, [name])

        yield broadcast


@contextlib.asynccontextmanager
async def litestar_memory(sends: Sequence[Send], url: Optional[str] = None) -> AsyncIterator[Broadcast]:
    """Use Litestar's channels in one process."""
    async with litestar(memory_backend, sends) as broadcast:
        yield broadcast


@contextlib.asynccontextmanager
async def litestar_pubsub(sends: Sequence[Send], url: Optional[str] = None) -> AsyncIterator[Broadcast]:
    """Use Litestar's channels, which keep nothing."""
    async with litestar(pubsub_backend, sends, url) as broadcast:
        yield broadcast


@contextlib.asynccontextmanager
async def litestar_stream(sends: Sequence[Send], url: Optional[str] = None) -> AsyncIterator[Broadcast]:
    """Use Litestar's channels that keep messages."""
    async with litestar(stream_backend, sends, url) as broadcast:
        yield broadcast


@contextlib.asynccontextmanager
async def started_layer(url: Optional[str]) -> AsyncIterator[Any]:
    """Supply the channel layer of channels_redis that publishes."""
    from channels_redis.pubsub import RedisPubSubChannelLayer

    layer = RedisPubSubChannelLayer(hosts=[url], prefix='bench%d' % next(prefixes))
    try:
        yield layer
    finally:
        await layer.flush()


async def serve_member(layer: Any, channel: str, send: Send) -> None:
    """Give a member what comes, as a consumer of Django Channels does."""
    while True:
        await send((await layer.receive(channel))['text'])


@contextlib.asynccontextmanager
async def channels_redis(sends: Sequence[Send], url: Optional[str] = None) -> AsyncIterator[Broadcast]:
    """Use channels_redis, with a task for each member."""
    async with started_layer(url) as layer:
        tasks: List['asyncio.Future[None]'] = []
        for send in sends:
            channel = await layer.new_channel()
            await layer.group_add('lobby', channel)
            tasks.append(asyncio.ensure_future(serve_member(layer, channel, send)))

        async def broadcast(texts: Sequence[str]) -> None:
            for text in texts:
                await layer.group_send('lobby', {'type': 'chat.message', 'text': text})

        yield broadcast
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
