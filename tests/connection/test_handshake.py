"""What is read of a handshake before it is accepted."""

import json
from urllib.parse import parse_qsl

import pytest
from apistar import http
from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws import ASyncApp, Route, WebSocket, collect_routes, websocket_route
from apistar_ws.connection.handshake import decode_headers, query_pairs
from tests.conversations import CONNECT, Peer, channel, run, scope


@given(st.text(st.sampled_from('ab=&;+% 41é'), max_size=20))
@example('a=1&b=&c&=2&&d=e=f')
@example('a=1+2&b=%41')
def test_query_pairs_match_standard_library(query):
    """The pairs of a query string equal those of the standard library."""
    assert query_pairs(query) == parse_qsl(query)


JOSE = 'José'.encode()


class TestHeaders:
    """What a client sends is read whatever its bytes are."""

    @pytest.mark.parametrize(
        'headers, read',
        [
            ([(b'x', b'a')], [('x', 'a')]),
            ([(b'x', JOSE)], [('x', 'José')]),
            ([(b'x', 'José'.encode('latin-1')), (b'y', JOSE)], [('x', 'José'), ('y', 'José')]),
            # The Kelvin sign is a k in lower case.
            ([('coo\u212aie'.encode(), b'a=1'), (b'x', b'a')], [('x', 'a')]),
            ([(b'\xff', b'a')], []),
            ([(b'cookie', b'a=1'), (b'x', b'a'), (b'Cookie', b'b=2')], [('x', 'a'), ('cookie', 'a=1; b=2')]),
        ],
    )
    def test_they_are_decoded_field_by_field(self, headers, read):
        assert decode_headers({'headers': headers}) == read

    @pytest.mark.parametrize(
        'fields, cookies',
        [
            ([b'session=1; name=' + JOSE], {'session': '1', 'name': 'José'}),
            ([b'name=Jos\xe9; session=1'], {'session': '1', 'name': 'José'}),
            ([b'name=Jos\xe9; other=' + JOSE], {'name': 'José', 'other': 'José'}),
            ([b'a=1', b'session=1', b'a=2'], {'session': '1', 'a': '1'}),
            ([b'a="\\303\\377"; session=1; ; =;x'], None),
            ([], {}),
        ],
    )
    def test_bad_cookie_affects_no_other(self, fields, cookies):
        """A malformed cookie does not affect the other cookies."""
        ws = channel(Peer(), headers=[])
        ws.scope['headers'] = [(b'cookie', field) for field in fields]
        if cookies is None:
            assert ws.cookies['session'] == '1'
        else:
            assert ws.cookies == cookies

    @given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=30))), st.lists(st.binary(max_size=40)))
    def test_reading_never_raises(self, headers, cookies):
        ws = channel(Peer())
        ws.scope['headers'] = headers + [(b'cookie', field) for field in cookies]
        assert all(isinstance(value, str) for value in [*ws.headers.values(), *ws.cookies.values(), ws.url])

    @pytest.mark.parametrize('kind', ['http', 'websocket'])
    async def test_a_single_header_is_read_alike(self, kind):
        async def answer(x: http.Header, cookie: http.Header, headers: http.Headers):
            return {'x': x, 'cookie': cookie, 'same': [headers['x'], headers['cookie']] == [x, cookie]}

        @websocket_route('/')
        async def single(ws: WebSocket, x: http.Header, cookie: http.Header) -> dict:
            return {'x': x, 'cookie': cookie, 'same': [ws.headers['x'], ws.headers['cookie']] == [x, cookie]}

        app = ASyncApp([*collect_routes(single), Route('/http', 'GET', answer)])
        made = scope('/' if kind == 'websocket' else '/http')
        made['headers'] += [(b'x', b'\xe9'), (b'cookie', b'a=1'), (b'cookie', b'b=\xe9')]
        peer = Peer(CONNECT)
        if kind == 'http':
            made.update(type='http', method='GET')
            await app(made, peer.receive, peer.send)
            answer = json.loads(peer.sent[1]['body'])
        else:
            answer = json.loads((await run(app, made, peer))[1]['text'])
        assert answer == {'x': 'é', 'cookie': 'a=1; b=é', 'same': True}
