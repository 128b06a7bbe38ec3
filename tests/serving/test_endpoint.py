import asyncio

import pytest
from apistar import exceptions, http

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.testing import HandshakeDenied, connect
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, disconnect, run, scope


@websocket_route('/quiet')
async def quiet():
    """Ask for nothing."""


class TestAdmission:
    @pytest.mark.parametrize(
        'url, options, status, body',
        [
            ('/limited', {'query_string': b'\xff'}, 400, b'"The query string has to be UTF-8"'),
            ('/limited?x=a', {}, 400, b'{"x":"Must be a number."}'),
            ('/needed', {}, 400, b'{"x":"The \\"x\\" field is required."}'),
            ('/limited', {'headers': [(b'host', b'a'), (b'origin', b'http://b')]}, 403, b'"Origin not allowed"'),
            ('/limited', {'headers': [(b'host', b'a'), (b'origin', b'null')]}, 403, None),
            ('/limited', {'headers': [(b'host', b'a'), (b'origin', b'http://a'), (b'origin', b'http://a')]}, 403, None),
            ('/limited', {'headers': [(b'origin', b'http://a')]}, 403, None),
        ],
    )
    async def test_what_may_not_pass_is_denied(self, url, options, status, body):
        @websocket_route('/limited')
        async def limited(ws: WebSocket, x: int = 0):
            """Be limited."""

        @websocket_route('/needed')
        async def needed(x: int, host: http.Host):
            """Need a parameter."""

        messages = await run(
            ASyncApp(collect_routes(limited, needed)),
            scope(url, **{'headers': []} | options) if 'headers' not in options else {**scope(url), **options},
            Peer(CONNECT),
        )
        assert messages[0]['status'] == status
        assert body in (None, messages[1]['body'])

    @pytest.mark.parametrize(
        'headers',
        [
            [(b'host', b'a:80'), (b'origin', b'http://a')],
            [(b'host', b'a'), (b'x', 'é'.encode()), (b'x', b'b')],
            [],
        ],
    )
    async def test_what_may_pass_passes(self, headers):
        app = ASyncApp(collect_routes(quiet))
        assert await run(app, {**scope('/quiet'), 'headers': headers}, Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_route_may_allow_every_origin(self):
        """Every origin passes if the route allows it."""

        @websocket_route('/open', allowed_origins='*')
        async def handler():
            """Be open."""

        app = ASyncApp(collect_routes(handler))
        assert await run(app, scope('/open', [('origin', 'null')]), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_full_route_denies_with_503(self):
        """A full route denies with 503 until a connection ends."""

        @websocket_route('/two', max_connections=2)
        async def two(ws: WebSocket):
            async for _ in ws:
                """Stay."""

        app = ASyncApp(collect_routes(two))
        async with connect(app, '/two'):
            async with connect(app, '/two'):
                for _ in range(2):
                    with pytest.raises(HandshakeDenied) as info:
                        async with connect(app, '/two'):
                            """Not get here."""
                    assert (info.value.status, info.value.headers['retry-after']) == (503, '5')
            async with connect(app, '/two'):
                """Fit in."""

    async def test_refused_handshakes_use_no_slot(self):
        """Handshakes that are being refused use no connection slot."""

        class Guard:
            def on_request(self, headers: http.Headers):
                if 'x-refuse' in headers:
                    raise exceptions.Forbidden()

            async def on_response(self, response: http.Response):
                if response.status_code == 403:
                    refusing.append(True)
                    await go_on.wait()

        @websocket_route('/two', max_connections=2)
        async def two():
            """Be let in."""

        refusing, go_on = [], asyncio.Event()
        app = ASyncApp(collect_routes(two), event_hooks=[Guard])
        peers = [Peer(CONNECT) for _ in range(5)]
        tasks = [asyncio.ensure_future(run(app, scope('/two', [('x-refuse', '1')]), peer)) for peer in peers]
        while len(refusing) < len(peers):
            await asyncio.sleep(0)
        assert await run(app, scope('/two'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        go_on.set()
        answers = await asyncio.gather(*tasks)
        assert [answer[0]['status'] for answer in answers] == [403] * 5

    async def test_simultaneous_handshakes_respect_the_limit(self):
        """The limit of connections holds, however many arrive at once."""

        @websocket_route('/ten', max_connections=10)
        async def ten(ws: WebSocket):
            async for _ in ws:
                """Stay."""

        app = ASyncApp(collect_routes(ten))
        peers = [Peer() for _ in range(20)]
        tasks = [asyncio.ensure_future(run(app, scope('/ten'), peer)) for peer in peers]
        await asyncio.sleep(0)
        for peer in peers:
            peer.add(CONNECT)
        while not all(peer.sent for peer in peers):
            await asyncio.sleep(0)
        accepted = [peer for peer in peers if peer.sent == [ACCEPT]]
        assert len(accepted) == 10
        for peer in accepted:
            peer.add(disconnect())
        answers = await asyncio.gather(*tasks)
        assert sorted(answer[0].get('status', 101) for answer in answers) == [101] * 10 + [503] * 10
