"""Streams: what an async generator yields is sent, and it is stopped when the client leaves."""

import asyncio
from typing import AsyncIterator

import pytest
from apistar import exceptions, types, validators
from apistar.exceptions import ConfigurationError

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route, websocket_stream
from tests.clock import virtual
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, closed, disconnect, run, scope, sent


class Tick(types.Type):
    count = validators.Integer()


async def serve(stream, url='/ticks', *script):
    return await run(ASyncApp(collect_routes(stream)), scope(url), Peer(CONNECT, *script))


class TestStream:
    async def test_yielded_values_are_sent(self):
        """Yielded values are sent, and the end of the stream is a close."""

        @websocket_stream('/ticks/{start}', name='ticks')
        async def ticks(start: int, ws: WebSocket):
            ws.seen = True
            yield 'text'
            yield None
            yield {'count': start}
            yield Tick(count=start)

        expected = [ACCEPT, sent('text'), sent('{"count":5}'), sent('{"count":5}'), CLOSE]
        assert await serve(ticks, '/ticks/5') == expected

    @pytest.mark.parametrize('declared', [True, False])
    async def test_what_it_declares_is_checked(self, declared, caplog):
        async def ticks():
            yield {'count': 5}
            yield {'count': 'many'}

        if not declared:
            ticks.__annotations__['return'] = AsyncIterator[Tick]
        stream = websocket_stream('/ticks', sends=Tick if declared else None)(ticks)
        assert await serve(stream) == [ACCEPT, sent('{"count":5}'), closed(1011, 'Internal error')]

    async def test_exception_closes_like_a_handler(self):
        """An exception closes the connection as in a handler."""

        @websocket_stream('/ticks')
        async def ticks():
            yield 'a'
            raise exceptions.NotFound()

        assert await serve(ticks) == [ACCEPT, sent('a'), closed(4404, 'Not found')]

    @pytest.mark.parametrize('waits', [True, False])
    @virtual
    async def test_stream_stops_with_its_client(self, waits):
        """A stream is stopped when its client leaves."""

        @websocket_stream('/ticks')
        async def ticks():
            try:
                while True:
                    yield 'a'
                    await asyncio.sleep(3600 if waits else 0.01)
            finally:
                stopped.append(asyncio.get_running_loop().time())

        stopped = []
        begun = asyncio.get_running_loop().time()
        sent_messages = await serve(ticks, '/ticks', disconnect())
        assert (sent_messages[:2], stopped[0] - begun < 1) == ([ACCEPT, sent('a')], True)

    async def test_failed_send_closes_the_stream(self):
        """A stream is closed when a send fails."""

        @websocket_stream('/ticks')
        async def ticks():
            try:
                while True:
                    yield 'a'
            finally:
                stopped.append(True)

        class Gone(Peer):
            async def send(self, message):
                if message['type'] == 'websocket.send':
                    raise OSError('gone')

        stopped = []
        await run(ASyncApp(collect_routes(ticks)), scope('/ticks'), Gone(CONNECT))
        assert stopped == [True]


class TestRefusedStreams:
    def test_plain_coroutine_is_refused(self):
        """A function that does not yield is refused."""
        with pytest.raises(ConfigurationError, match='ticks has to be an async generator'):

            @websocket_stream('/ticks')
            async def ticks():
                """Not run."""

    def test_an_async_generator_is_no_handler(self):
        with pytest.raises(ConfigurationError, match='does not yield, websocket_stream does'):

            @websocket_route('/ticks')
            async def ticks():
                yield  # pragma: no cover
