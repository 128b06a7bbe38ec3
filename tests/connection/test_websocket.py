import asyncio
import gc
import json
import weakref

import pytest
from apistar import exceptions, types, validators
from apistar.exceptions import ValidationError

from apistar_ws import (
    ASyncApp,
    CloseCode,
    InvalidMessage,
    Settings,
    UnsupportedMessage,
    WebSocket,
    WebSocketDisconnect,
    WebSocketState,
    WebSocketStateError,
    collect_routes,
    websocket_route,
)
from apistar_ws.connection.connection import SENDS_PER_YIELD, Connection
from apistar_ws.connection.websocket import connection_of, typed_websocket_of
from apistar_ws.messages.schema import Schema
from tests.conversations import (
    ACCEPT,
    CLOSE,
    CONNECT,
    BlockedPeer,
    ImpatientPeer,
    Peer,
    binary,
    channel,
    closed,
    disconnect,
    opened,
    run,
    scope,
    sent,
    text,
)

CONNECTING, OPEN, CLOSED, DISCONNECTED = WebSocketState


class Name(str):
    """A kind of text."""


class Order(types.Type):
    item = validators.String(max_length=10)


async def in_state(state, peer):
    """Return a channel to ``peer`` that is in ``state``, with nothing sent since."""
    if state is CONNECTING:
        return channel(peer)
    ws = await opened(peer)
    if state is CLOSED:
        await ws.close(4001, 'bye')
    if state is DISCONNECTED:
        peer.add(disconnect(4002, 'left'))
        with pytest.raises(WebSocketDisconnect):
            await ws.receive()
    peer.sent.clear()
    assert ws.state is state
    return ws


async def call(ws, method):
    calls = {
        'connect': lambda: ws.connect(),
        'connect otherwise': lambda: ws.connect(headers={'x-a': 'b'}),
        'deny': lambda: ws.deny(418, [('x-a', 'b')], b'no'),
        'receive': lambda: ws.receive(),
        'recv': lambda: ws.recv(),
        'receive_text': lambda: ws.receive_text(),
        'receive_bytes': lambda: ws.receive_bytes(),
        'receive_json': lambda: ws.receive_json(),
        'iterate': lambda: collect(ws),
        'send text': lambda: ws.send('a'),
        'send bytes': lambda: ws.send(b'a'),
        'send_json': lambda: ws.send_json({'a': 1}),
        'close': lambda: ws.close(),
        'close with code': lambda: ws.close(4003, 'why'),
    }
    return await calls[method]()


async def collect(ws):
    return [message async for message in ws]


DENIAL = [
    {'type': 'websocket.http.response.start', 'status': 418, 'headers': [(b'x-a', b'b')]},
    {'type': 'websocket.http.response.body', 'body': b'no'},
]
LEFT = (WebSocketDisconnect, r'disconnected \(code 4002')
FIRST = (WebSocketStateError, r'connecting\. Await connect\(\) first')
AFTER = (WebSocketStateError, r'closed\. Its handler has ended or has closed it')

# In this state, this call gives this result or error, and sends this. The client's next message is '5'.
TABLE = [
    (CONNECTING, 'connect', None, [ACCEPT]),
    (CONNECTING, 'connect otherwise', None, [{**ACCEPT, 'headers': [(b'x-a', b'b')]}]),
    (CONNECTING, 'deny', None, DENIAL),
    (CONNECTING, 'receive', FIRST, []),
    (CONNECTING, 'recv', FIRST, []),
    (CONNECTING, 'receive_text', FIRST, []),
    (CONNECTING, 'receive_bytes', FIRST, []),
    (CONNECTING, 'receive_json', FIRST, []),
    (CONNECTING, 'iterate', FIRST, []),
    (CONNECTING, 'send text', FIRST, []),
    (CONNECTING, 'send bytes', FIRST, []),
    (CONNECTING, 'send_json', FIRST, []),
    (CONNECTING, 'close', None, [CLOSE]),
    (CONNECTING, 'close with code', None, [closed(4003, 'why')]),
    (OPEN, 'connect', None, []),
    (OPEN, 'connect otherwise', (WebSocketStateError, 'accepted with other arguments'), []),
    (OPEN, 'deny', (WebSocketStateError, 'A handshake is answered once'), []),
    (OPEN, 'receive', '5', []),
    (OPEN, 'recv', '5', []),
    (OPEN, 'receive_text', '5', []),
    (OPEN, 'receive_bytes', (UnsupportedMessage, 'Expected bytes, got text'), []),
    (OPEN, 'receive_json', 5, []),
    (OPEN, 'iterate', ['5'], []),
    (OPEN, 'send text', None, [sent('a')]),
    (OPEN, 'send bytes', None, [{'type': 'websocket.send', 'bytes': b'a'}]),
    (OPEN, 'send_json', None, [sent('{"a":1}')]),
    (OPEN, 'close', None, [CLOSE]),
    (OPEN, 'close with code', None, [closed(4003, 'why')]),
    (CLOSED, 'connect', (WebSocketStateError, r'connect\(\) is not possible .* closed\. Connect before closing'), []),
    (CLOSED, 'connect otherwise', (WebSocketStateError, 'Connect before closing'), []),
    (CLOSED, 'deny', (WebSocketStateError, 'A handshake is answered once'), []),
    (CLOSED, 'receive', AFTER, []),
    (CLOSED, 'recv', AFTER, []),
    (CLOSED, 'receive_text', AFTER, []),
    (CLOSED, 'receive_bytes', AFTER, []),
    (CLOSED, 'receive_json', AFTER, []),
    (CLOSED, 'iterate', [], []),
    (CLOSED, 'send text', AFTER, []),
    (CLOSED, 'send bytes', AFTER, []),
    (CLOSED, 'send_json', AFTER, []),
    (CLOSED, 'close', None, []),
    (CLOSED, 'close with code', None, []),
    (DISCONNECTED, 'connect', LEFT, []),
    (DISCONNECTED, 'connect otherwise', LEFT, []),
    (DISCONNECTED, 'deny', LEFT, []),
    (DISCONNECTED, 'receive', LEFT, []),
    (DISCONNECTED, 'recv', LEFT, []),
    (DISCONNECTED, 'receive_text', LEFT, []),
    (DISCONNECTED, 'receive_bytes', LEFT, []),
    (DISCONNECTED, 'receive_json', LEFT, []),
    (DISCONNECTED, 'iterate', [], []),
    (DISCONNECTED, 'send text', LEFT, []),
    (DISCONNECTED, 'send bytes', LEFT, []),
    (DISCONNECTED, 'send_json', LEFT, []),
    (DISCONNECTED, 'close', None, []),
    (DISCONNECTED, 'close with code', None, []),
]


@pytest.mark.parametrize('state, method, outcome, messages', TABLE)
async def test_each_state_matches_the_table(state, method, outcome, messages):
    """Each call does in each state what the table says."""
    peer = Peer()
    ws = await in_state(state, peer)
    peer.add(*([CONNECT] if state is CONNECTING else []), text('5'), disconnect())
    if isinstance(outcome, tuple):
        with pytest.raises(outcome[0], match=outcome[1]):
            await call(ws, method)
    else:
        assert await call(ws, method) == outcome
    assert peer.sent == messages


def test_table_is_complete():
    """The table has every state and method."""
    assert len(TABLE) == len({row[:2] for row in TABLE}) == len(WebSocketState) * len({row[1] for row in TABLE})


async def test_errors_name_the_path():
    ws = await in_state(CLOSED, Peer())
    with pytest.raises(WebSocketStateError, match=r'^send\(\) is not possible on the WebSocket of /, which is closed'):
        await ws.send('a')


class TestHandshakeData:
    def made(self, url='ws://example.com:8000/chat/a%20b?x=1&y=2&x=3', given=(), **changes):
        return WebSocket({**scope(url, given), **changes}, None, None)

    def test_request_data_is_api_stars(self):
        """Query parameters, headers and cookies are those of API Star."""
        ws = self.made(given=[('cookie', 'a=1; b="2"; a=3'), ('x-a', '1'), ('X-A', '2')])
        assert ws.query_params.get_list('x') == ['1', '3']
        assert (ws.headers['X-A'], ws.headers.get_list('x-a')) == ('1', ['1', '2'])
        assert ws.cookies == {'a': '1', 'b': '2'}

    def test_a_handshake_may_come_without_any(self):
        ws = self.made('ws://example.com/')
        assert (ws.cookies, dict(ws.query_params.items()), ws.subprotocols) == ({}, {}, ())
        assert (ws.subprotocol, ws.close_code, ws.close_reason, ws.path_params) == (None, None, None, {})

    @pytest.mark.parametrize(
        'url, changes, expected',
        [
            ('ws://example.com/', {}, 'ws://example.com/'),
            ('wss://example.com/a?b=c', {}, 'wss://example.com/a?b=c'),
            ('ws://example.com:8000/a', {}, 'ws://example.com:8000/a'),
            ('ws://example.com/a', {'root_path': '/api'}, 'ws://example.com/api/a'),
            ('ws://example.com/a', {'headers': []}, 'ws://example.com/a'),
            ('ws://example.com/a', {'headers': [], 'server': ('10.0.0.1', 8000)}, 'ws://10.0.0.1:8000/a'),
            ('ws://example.com/a', {'headers': [], 'server': ('/run/app.sock', None)}, 'ws://localhost/a'),
            ('ws://example.com/a', {'headers': [], 'server': None}, 'ws://localhost/a'),
        ],
    )
    def test_url_is_the_requested_one(self, url, changes, expected):
        """The URL is the one that the client requested."""
        assert self.made(url, **changes).url == expected

    @pytest.mark.parametrize(
        'host', [b'x#', b'x?', b'x/y', b'x\\y', b'a@b', b'[', b'[::', b'\xe2\x84\x80', b'x:99999', b'x:a', b'', b'a b']
    )
    def test_malformed_host_is_ignored(self, host):
        """A Host header cannot move the path of the URL, which a hook may guard by."""
        url = self.made('ws://example.com/admin/a', headers=[(b'host', host)]).url
        assert (url, url.components.path, url.components.port) == ('ws://example.com/admin/a', '/admin/a', None)

    @pytest.mark.parametrize('path', ['/admin/a?b', '/admin/a#b'])
    def test_path_stays_a_path(self, path):
        """A decoded question mark or number sign does not begin another part of the URL."""
        url = self.made('ws://example.com/', path=path).url
        assert url.components.path == path.replace('?', '%3F').replace('#', '%23')

    def test_client_address_may_be_unknown(self):
        """The client is the address that the server knows, or None."""
        assert self.made(client=['10.0.0.2', 5]).client == ('10.0.0.2', 5)
        assert self.made(client=None).client is None

    def test_it_shows_path_and_state(self):
        assert repr(self.made()) == '<WebSocket /chat/a b connecting>'

    def test_users_may_set_attributes(self):
        """Users may set attributes of their own."""
        ws = self.made()
        ws.user = 'ann'
        assert ws.user == 'ann'

    @pytest.mark.parametrize('name', ['release', 'finish', 'abort', 'begin', 'handshake', 'interrupt', 'sending'])
    async def test_internal_names_stay_free(self, name):
        """Names that the package uses internally are free for users."""

        @websocket_route('/')
        async def handler(ws: WebSocket):
            setattr(ws, name, '2026.1')
            raise exceptions.Forbidden()

        peer = Peer(CONNECT)
        assert await run(ASyncApp(collect_routes(handler)), scope(), peer) == [ACCEPT, closed(4403, 'Forbidden')]

    def test_what_a_client_sent_is_escaped(self):
        ws = self.made(path='/a\nERROR: all is lost\x1b[31m')
        assert repr(ws) == r'<WebSocket /a\nERROR: all is lost\x1b[31m connecting>'


class TestConnect:
    @pytest.mark.parametrize(
        'offered, spoken, accepted',
        [
            ([], [], None),
            (['a'], [], None),
            ([], ['a'], None),
            (['a', 'b'], ['b', 'a'], 'b'),
            (['a'], ['b'], None),
        ],
    )
    async def test_preferred_subprotocol_is_chosen(self, offered, spoken, accepted):
        """The offered subprotocol that the route prefers is chosen."""
        peer = Peer(CONNECT)
        ws = channel(peer, Settings(subprotocols=spoken), subprotocols=offered)
        await ws.connect()
        assert peer.sent == [{**ACCEPT, 'subprotocol': accepted}]
        assert ws.subprotocol == accepted

    async def test_handler_may_choose_the_answer(self):
        """The handler may choose the subprotocol and the headers of the accept."""
        peer = Peer(CONNECT)
        ws = channel(peer, Settings(subprotocols=['a']), subprotocols=['a', 'b'])
        await ws.connect(subprotocol='b', headers={'Set-Cookie': 'a=1'})
        assert peer.sent == [{**ACCEPT, 'subprotocol': 'b', 'headers': [(b'set-cookie', b'a=1')]}]
        await ws.connect()
        await ws.connect(subprotocol='b')
        with pytest.raises(WebSocketStateError, match="subprotocol='a'"):
            await ws.connect(subprotocol='a')
        assert len(peer.sent) == 1

    async def test_two_calls_at_once_accept_once(self):
        peer = Peer(CONNECT)
        send = peer.send

        async def slow_send(message):
            await asyncio.sleep(0)
            await send(message)

        peer.send = slow_send
        ws = channel(peer)
        await ws._receive_handshake()
        await asyncio.gather(ws.connect(), ws.connect())
        assert peer.sent == [ACCEPT]

    async def test_subprotocol_not_offered_is_refused(self):
        """A subprotocol that was not offered is refused and nothing is sent."""
        peer = Peer(CONNECT)
        ws = channel(peer, subprotocols=['a'])
        with pytest.raises(ValueError, match=r"did not offer the subprotocol 'b', only \['a'\]"):
            await ws.connect(subprotocol='b')
        assert (peer.sent, ws.state) == ([], CONNECTING)

    @pytest.mark.parametrize(
        'headers',
        [
            {'a b': 'c'},
            {'': 'c'},
            {'a': 'b\r\nc: d'},
            [('a', '\0')],
            {'a': '\x7f'},
            {'a': 'b '},
            {'Sec-WebSocket-Protocol': 'a'},
            {'Upgrade': 'a'},
            {'a': '\ud800'},
            [(b'a', b'b')],
            {'a': 5},
        ],
    )
    async def test_invalid_header_is_refused(self, headers):
        """A header that cannot be sent is refused and nothing is sent."""
        peer = Peer(CONNECT)
        ws = channel(peer)
        with pytest.raises(ValueError):
            await ws.connect(headers=headers)
        assert (peer.sent, ws.state) == ([], CONNECTING)

    async def test_departed_client_is_not_answered(self):
        """A client that has left is not answered."""
        peer = Peer(disconnect(1006))
        ws = channel(peer)
        with pytest.raises(WebSocketDisconnect) as info:
            await ws.connect()
        assert (info.value.code, peer.sent, ws.state) == (1006, [], DISCONNECTED)

    async def test_client_found_gone_is_not_answered(self):
        """A client that was found to have left is not answered."""
        peer = ImpatientPeer(CONNECT, disconnect(1006))
        ws = channel(peer)
        await ws._receive_handshake()
        connection_of(ws).read_ahead()
        with pytest.raises(WebSocketDisconnect):
            await ws.connect()
        assert peer.sent == []

    async def test_failed_accept_is_a_disconnect(self):
        """A server that cannot send the accept has lost the client."""
        peer = Peer(CONNECT)
        peer.send = Peer().receive
        ws = channel(peer)
        with pytest.raises(WebSocketDisconnect) as info:
            await ws.connect()
        assert info.value.code == CloseCode.ABNORMAL_CLOSURE

    async def test_plain_http_cannot_be_connected(self):
        ws = WebSocket(scope('/a', type='http'), None, None)
        with pytest.raises(WebSocketStateError, match='There is no WebSocket to connect on /a: it is a plain HTTP'):
            await ws.connect()

    @pytest.mark.parametrize(
        'headers, advice',
        [
            ({'Sec-WebSocket-Protocol': 'a'}, r'give connect\(\) the subprotocol by its name'),
            ({'Upgrade': 'x'}, "upgrade is the server's, which answers the upgrade with it: leave it out"),
            ([(b'a', b'b')], 'give name and value as text'),
        ],
    )
    async def test_error_gives_advice(self, headers, advice):
        """The error of a wrong header says what to do instead."""
        with pytest.raises(ValueError, match=advice):
            await channel(Peer(CONNECT)).connect(headers=headers)


class TestDeny:
    async def test_denial_without_extension_is_a_close(self):
        """Without the ASGI extension a denial is a close."""
        peer = Peer(CONNECT)
        await channel(peer, extensions=None).deny(404)
        assert peer.sent == [closed(1000)]

    async def test_invalid_header_leaves_handshake_open(self):
        """A header that cannot be sent leaves the handshake unanswered."""
        ws = channel(Peer(CONNECT))
        with pytest.raises(ValueError):
            await ws.deny(404, [('a', '\n')])
        assert ws.state is CONNECTING


class TestReceive:
    @pytest.mark.parametrize(
        'message, data',
        [
            (text('a'), 'a'),
            (text(''), ''),
            (binary(b''), b''),
            ({**text('a'), 'bytes': None}, 'a'),
            ({**binary(b'a'), 'text': None}, b'a'),
            ({**binary(None), 'text': ''}, ''),
        ],
    )
    async def test_messages_arrive_unchanged(self, message, data):
        """Every message is delivered unchanged."""
        ws = await opened(Peer(message))
        assert await ws.receive() == data

    async def test_kind_may_be_required(self):
        """Text or bytes can be required, and the other kind raises UnsupportedMessage."""
        ws = await opened(Peer(text('a'), binary(b'a'), binary(b'a')))
        assert (await ws.receive_text(), await ws.receive_bytes()) == ('a', b'a')
        with pytest.raises(UnsupportedMessage, match='Expected text, got bytes'):
            await ws.receive_text()
        assert ws.state is OPEN

    @pytest.mark.parametrize(
        'message, code, reason',
        [
            (disconnect(4000, 'bye'), 4000, 'bye'),
            ({'type': 'websocket.disconnect'}, 1005, ''),
            ({'type': 'websocket.disconnect', 'code': None, 'reason': None}, 1005, ''),
            (RuntimeError('server'), 1006, ''),
        ],
    )
    async def test_disconnect_has_code_and_reason(self, message, code, reason):
        """A client that left raises a disconnect with its code and reason."""
        ws = await opened(Peer(message))
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect) as info:
                await ws.receive()
            assert (info.value.code, info.value.reason) == (code, reason)
        assert (ws.close_code, ws.close_reason, ws.disconnected) == (code, reason, True)

    async def test_only_one_task_may_receive(self):
        ws = await opened(Peer())
        first = asyncio.ensure_future(ws.receive())
        await asyncio.sleep(0)
        with pytest.raises(WebSocketStateError, match='Another task of the handler is receiving'):
            await ws.receive()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    async def test_wait_can_be_repeated(self):
        """A receive can be called again after it was cancelled."""
        peer = Peer()
        ws = await opened(peer)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.receive(), 0.001)
        peer.add(text('a'))
        assert await ws.receive() == 'a'

    async def test_close_elsewhere_ends_a_wait(self):
        """A close by another task ends a receive with a disconnect."""
        peer = Peer()
        ws = await opened(peer)
        waiting = asyncio.ensure_future(ws.receive())
        await asyncio.sleep(0)
        await ws.close(4001, 'done')
        peer.add(disconnect(4001, 'done'))
        with pytest.raises(WebSocketDisconnect) as info:
            await waiting
        assert (info.value.code, ws.state) == (4001, CLOSED)

    @pytest.mark.parametrize(
        'limit, message, passes',
        [
            (8, text('x' * 8), True),
            (8, text('x' * 9), False),
            (8, text('é' * 4), True),
            (8, text('é' * 5), False),
            (8, text('\ud800' * 8), True),
            (8, binary(b'x' * 8), True),
            (8, binary(b'x' * 9), False),
            (None, binary(b'x' * 9), True),
            (None, text('x' * 9), True),
        ],
    )
    async def test_large_message_closes_with_1009(self, limit, message, passes):
        """A message larger than the limit in bytes closes with 1009."""
        peer = Peer(message)
        ws = await opened(peer, Settings(max_message_size=limit))
        if passes:
            assert await ws.receive() in (message.get('text'), message.get('bytes'))
            assert peer.sent == []
        else:
            for _ in range(2):
                with pytest.raises(WebSocketDisconnect) as info:
                    await ws.receive()
            assert info.value.code == 1009
            await connection_of(ws).finish()
            assert peer.sent == [closed(1009, 'Message larger than 8 bytes')]

    async def test_fast_messages_close_with_1008(self):
        """More messages in a second than the limit close with 1008."""
        peer = Peer(*[text('a')] * 4)
        ws = await opened(peer, Settings(max_messages_per_second=3))
        assert [message async for message in ws] == ['a'] * 3
        await connection_of(ws).finish()
        assert peer.sent == [closed(1008, 'More than 3 messages per second')]

    async def test_messages_within_rate_pass(self, monkeypatch):
        """Messages within the rate limit pass, however many they are."""
        clock = iter(range(100))
        loop = asyncio.get_running_loop()
        ws = await opened(Peer(*[text('a')] * 20), Settings(max_messages_per_second=1))
        monkeypatch.setattr(loop, 'time', lambda: next(clock))
        assert [await ws.receive() for _ in range(20)] == ['a'] * 20
        monkeypatch.undo()

    async def test_a_single_message_can_be_typed(self):
        ws = await opened(Peer(text('{"item": "tea"}'), text('{"item": 1}'), text('{')))
        assert await ws.receive(Order) == Order(item='tea')
        with pytest.raises(InvalidMessage) as info:
            await ws.receive(Order)
        assert info.value.detail == {'item': 'Must be a string.'}
        with pytest.raises(InvalidMessage, match='^Malformed JSON'):
            await ws.receive_json()

    async def test_unknown_asgi_message_is_an_error(self):
        """A message that ASGI does not define raises an error that names it."""
        ws = await opened(Peer({'type': 'websocket.ping'}))
        with pytest.raises(RuntimeError, match="The server sent 'websocket.ping' to <WebSocket / open>, where ASGI"):
            await ws.receive()


class TestSend:
    @pytest.mark.parametrize(
        'data, message',
        [
            ('', {'text': ''}),
            ('é\N{SNOWMAN}', {'text': 'é\N{SNOWMAN}'}),
            (b'', {'bytes': b''}),
            (bytearray(b'a'), {'bytes': b'a'}),
            (memoryview(b'a'), {'bytes': b'a'}),
            (Name('a'), {'text': 'a'}),
            (Order(item='é'), {'text': '{"item":"é"}'}),
        ],
    )
    async def test_text_bytes_and_types_are_sent(self, data, message):
        peer = Peer()
        ws = await opened(peer)
        await ws.send(data)
        assert peer.sent == [{'type': 'websocket.send', **message}]
        assert [type(value) for value in message.values()] == [type(value) for value in list(peer.sent[0].values())[1:]]

    @pytest.mark.parametrize(
        'data, error, sentence',
        [
            ('a\ud800', ValueError, r"holds '\\ud800' at position 1, a lone surrogate .* nothing was sent"),
            (None, TypeError, 'takes text, bytes or a types.Type, not NoneType'),
            ({'a': 1}, TypeError, r'not dict: send_json\(\) sends any JSON'),
        ],
    )
    async def test_unsendable_data_is_refused(self, data, error, sentence):
        """Data that cannot be sent is refused and nothing is sent."""
        peer = Peer()
        ws = await opened(peer)
        with pytest.raises(error, match=sentence):
            await ws.send(data)
        assert (peer.sent, ws.state) == ([], OPEN)

    @pytest.mark.parametrize('error', [OSError('gone'), RuntimeError('Unexpected ASGI message'), KeyError('x')])
    async def test_failed_send_is_a_disconnect(self, error):
        """A send after the client left is a disconnect, whatever the server raises."""
        ws = await opened(Peer())

        async def send(message):
            raise error

        connection_of(ws).push = send
        for _ in range(2):
            with pytest.raises(WebSocketDisconnect) as info:
                await ws.send('a')
            assert info.value.code == 1006

    async def test_several_tasks_may_send_at_once(self):
        peer = BlockedPeer()
        ws = await opened(peer)
        sends = [asyncio.ensure_future(ws.send(data)) for data in 'abc']
        await asyncio.sleep(0)
        peer.unblock.set()
        await asyncio.gather(*sends)
        assert peer.sent == [sent('a'), sent('b'), sent('c')]

    @pytest.mark.parametrize('data', ['a', b'a'])
    async def test_endless_sends_let_others_run(self, data):
        """A handler that sends without end lets other tasks run."""
        ws = await opened(Peer())
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, True)
        for _ in range(SENDS_PER_YIELD):
            await ws.send(data)
        assert ran == [True]

    async def test_an_interrupt_of_the_program_passes(self):
        ws = await opened(Peer())

        async def send(message):
            raise GeneratorExit

        connection_of(ws).push = send
        with pytest.raises(GeneratorExit):
            await ws.send('a')


class TestClose:
    @pytest.mark.parametrize('code', [1005, 999, 5000])
    async def test_forbidden_code_is_refused(self, code):
        """A code that must not be sent is refused and nothing is sent."""
        peer = Peer()
        ws = await opened(peer)
        with pytest.raises(ValueError, match='must not be sent'):
            await ws.close(code)
        assert (peer.sent, ws.state) == ([], OPEN)

    async def test_a_long_reason_is_cut(self):
        peer = Peer()
        ws = await opened(peer)
        await ws.close(4000, 'é' * 100)
        assert peer.sent == [closed(4000, 'é' * 61)]
        assert (ws.close_code, ws.close_reason) == (4000, 'é' * 61)

    @pytest.mark.parametrize('code, tried', [(1011, [1011, 4011]), (1000, [1000]), (4000, [4000])])
    async def test_refused_code_becomes_private(self, code, tried):
        """A server that cannot send a protocol code gets a private one."""
        ws = await opened(Peer())
        codes = []

        async def send(message):
            codes.append(message['code'])
            if len(codes) == 1:
                raise RuntimeError('invalid close code')

        connection_of(ws).server_send = send
        await ws.close(code)
        assert codes == tried

    async def test_departed_client_is_no_error(self):
        """A close after the client has left is not an error."""
        ws = await opened(Peer())

        async def send(message):
            raise OSError

        connection_of(ws).server_send = send
        await ws.close()
        assert (ws.state, ws.close_code) == (CLOSED, 1000)


class TestTyped:
    async def made(self, peer, receives=None, sends=None, **settings):
        connection = Connection(scope(), peer.receive, peer.send, Settings(**settings), {})
        ws = typed_websocket_of(connection, receives and Schema(receives), sends and Schema(sends))
        peer.add(CONNECT)
        await ws.connect()
        peer.sent.clear()
        return ws

    async def test_declared_messages_arrive_as_instances(self):
        peer = Peer()
        ws = await self.made(peer, receives=Order)
        peer.add(text('{"item": "tea"}'), binary(b'{"item": "milk"}'), text('raw'), text('5'), disconnect())
        assert await ws.receive() == Order(item='tea')
        assert await ws.recv() == Order(item='milk')
        assert await ws.receive_text() == 'raw'
        assert await ws.receive(validators.Integer()) == 5
        assert [message async for message in ws] == []

    async def test_undeclared_messages_stay_unchanged(self):
        """Messages in the direction without a declared type stay as they are."""
        peer = Peer()
        ws = await self.made(peer, sends=Order)
        peer.add(text('raw'))
        assert await ws.receive() == 'raw'
        ws = await self.made(peer, receives=Order)
        await ws.send('raw')
        assert peer.sent == [sent('raw')]

    async def test_declared_messages_are_checked(self):
        """Declared messages are checked before they are sent."""
        peer = Peer()
        ws = await self.made(peer, sends=Order)
        await ws.send(Order(item='tea'))
        await ws.send({'item': 'milk'})
        with pytest.raises(ValidationError):
            await ws.send({'item': 'x' * 11})
        assert peer.sent == [sent('{"item":"tea"}'), sent('{"item":"milk"}')]

    async def test_invalid_message_raises_by_default(self):
        """An invalid message is raised by default."""
        peer = Peer()
        ws = await self.made(peer, receives=Order)
        peer.add(text('{}'))
        with pytest.raises(InvalidMessage):
            await ws.receive()
        assert (peer.sent, ws.state) == ([], OPEN)

    @pytest.mark.parametrize('settings, key', [({}, 'error'), ({'error_key': 'problem'}, 'problem')])
    async def test_invalid_message_may_be_replied(self, settings, key):
        """An invalid message may be answered with a reply."""
        peer = Peer()
        ws = await self.made(peer, receives=Order, on_invalid='reply', **settings)
        peer.add(text('{}'), text('{'), text('{"item": "tea"}'))
        assert await ws.receive() == Order(item='tea')
        assert peer.sent == [
            sent('{"%s":{"item":"The \\"item\\" field is required."}}' % key),
            sent(
                '{"%s":"Malformed JSON. Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"}'
                % key,
            ),
        ]

    async def test_replies_to_many_errors_are_short(self):
        """However much of a message is wrong, the reply is bounded."""
        peer = Peer()
        declared = validators.Array(items=validators.String(), min_items=1)
        ws = await self.made(peer, receives=declared, on_invalid='reply')
        peer.add(text(json.dumps(10**4 * [1])), text('["tea"]'))
        assert await ws.receive() == ['tea']
        assert len(peer.sent[0]['text']) < 10**4

    async def test_invalid_message_may_call_function(self):
        """An invalid message may be passed to a function."""
        seen = []

        def note(ws, exc):
            seen.append(exc.detail)

        async def answer(ws, exc):
            await ws.send('no')

        for on_invalid in (note, answer):
            peer = Peer()
            ws = await self.made(peer, receives=Order, on_invalid=on_invalid)
            peer.add(text('[]'), text('{"item": "tea"}'))
            assert await ws.receive() == Order(item='tea')
        assert (seen, peer.sent) == (['Must be an object.'], [sent('no')])


async def test_websocket_needs_no_garbage_collector():
    """A WebSocket is freed without the garbage collector."""
    gc.disable()
    try:
        ws = await opened(Peer(text('a')))
        await ws.send(await ws.receive())
        await ws.close()
        freed = weakref.ref(ws)
        del ws
        assert freed() is None
    finally:
        gc.enable()


class TestAttributes:
    """Attributes of the user's own."""

    def test_class_has_no_getattr(self):
        """The class has no __getattr__, which would slow down every attribute."""
        assert not any('__getattr__' in vars(cls) for cls in WebSocket.__mro__)

    @pytest.mark.parametrize('name', ['state', 'close_code', 'close_reason'])
    def test_package_attributes_are_read_only(self, name):
        """Attributes that the package decides cannot be set."""
        with pytest.raises(AttributeError):
            setattr(channel(Peer()), name, 'busy')

    def test_state_attribute_is_refused_with_advice(self):
        """Setting an attribute of the state is refused with advice."""
        with pytest.raises(AttributeError, match=r'all connections share: .* ws.user = '):
            channel(Peer()).state.user = 'ann'

    def test_default_path_parameters_are_read_only(self):
        """The path parameters of a WebSocket made by hand cannot be changed."""
        with pytest.raises(TypeError):
            channel(Peer()).path_params['room'] = 'a'

    def test_names_of_other_frameworks_are_free(self):
        ws = channel(Peer())
        ws.user = 'ann'
        assert (ws.user, getattr(ws, 'count', 5)) == ('ann', 5)
        with pytest.raises(AttributeError, match="'WebSocket' object has no attribute 'colour'"):
            ws.colour


class TestCallsAfterEnd:
    """A handler that catches what it is told, in a loop."""

    @pytest.mark.parametrize('way', ['receive', 'send', 'closed'])
    async def test_endless_loop_is_ended(self, way, caplog):
        """A handler that keeps calling a closed connection blocks nothing and is ended."""

        @websocket_route('/loop')
        async def loop(ws: WebSocket):
            if way == 'closed':
                await ws.close()
            while True:
                try:
                    await (ws.send('x') if way == 'send' else ws.receive())
                except Exception:
                    calls.append(way)

        calls = []
        sent = await run(ASyncApp(collect_routes(loop)), scope('/loop'), Peer(CONNECT, disconnect()))
        assert (sent[0], len(calls) < 50) == (ACCEPT, True)
        # A send without end is ended by the watch, where it gives way to others.
        told = [] if way == 'send' else ['the handler keeps calling receive() on a closed connection and is cancelled']
        assert [record.getMessage().partition('>: ')[2].partition(':')[0] for record in caplog.records] == told

    async def test_stubborn_loop_blocks_nothing(self, caplog):
        """A handler that catches even the cancellation blocks nothing."""

        @websocket_route('/loop')
        async def loop(ws: WebSocket):
            while len(calls) < 100:
                try:
                    await ws.receive()
                except BaseException as exc:
                    calls.append(type(exc))

        calls = []
        await run(ASyncApp(collect_routes(loop)), scope('/loop'), Peer(CONNECT, disconnect()))
        assert len(caplog.records) == 1

    async def test_other_tasks_do_not_count(self, caplog):
        """Calls of other tasks do not count."""
        ws = await opened(Peer(disconnect()))
        for _ in range(50):
            with pytest.raises(WebSocketDisconnect):
                await ws.receive()
        assert caplog.records == []


@pytest.mark.parametrize('call', ['receive', 'send', 'close'])
async def test_other_event_loop_is_refused(call):
    """A call in another event loop is refused."""
    peer = Peer()
    ws = await opened(peer)

    def elsewhere():
        with pytest.raises(
            RuntimeError, match=r'^%s\(\) of <WebSocket / open> was called outside of its event loop' % call
        ):
            asyncio.run(ws.send('x') if call == 'send' else getattr(ws, call)())

    await asyncio.to_thread(elsewhere)
    assert ws.state is WebSocketState.OPEN and peer.sent == []
    await ws.send('still')
    assert peer.sent == [{'type': 'websocket.send', 'text': 'still'}]


class TestCloseByOtherTask:
    """Who calls ``close()`` decides, whichever task runs it."""

    WAYS = {
        'awaited': lambda ws: ws.close(4000),
        'wait_for': lambda ws: asyncio.wait_for(ws.close(4000), 5),
        'gather': lambda ws: asyncio.gather(ws.close(4000)),
        'shield': lambda ws: asyncio.shield(ws.close(4000)),
        'task': lambda ws: asyncio.ensure_future(ws.close(4000)),
    }

    @pytest.mark.parametrize('way', WAYS)
    async def test_handler_may_close_in_any_way(self, way):
        """The handler may await close() directly or through a function of asyncio."""
        states = []

        @websocket_route('/')
        async def handler(ws: WebSocket):
            await self.WAYS[way](ws)
            states.append(ws.state)

        peer = Peer(CONNECT)
        assert await run(ASyncApp(collect_routes(handler)), scope('/'), peer) == [ACCEPT, closed(4000)]
        assert states == [WebSocketState.CLOSED]

    @pytest.mark.parametrize('how', ['task', 'callback', 'thread'])
    async def test_close_elsewhere_is_a_disconnect(self, how):
        """A close by another task is a disconnect to the handler."""
        seen, kept, loop = [], [], asyncio.get_running_loop()

        @websocket_route('/')
        async def handler(ws: WebSocket):
            async def kick():
                await ws.close(4000, 'over')

            if how == 'task':
                kept.append(loop.create_task(kick()))
            elif how == 'callback':
                loop.call_soon(lambda: kept.append(loop.create_task(ws.close(4000, 'over'))))
            else:
                kept.append(loop.create_task(await asyncio.to_thread(ws.close, 4000, 'over')))
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append((ws.state, ws.close_code, ws.close_reason))
                raise

        app = ASyncApp(collect_routes(handler))
        assert await run(app, scope('/'), Peer(CONNECT)) == [ACCEPT, closed(4000, 'over')]
        assert seen == [(WebSocketState.DISCONNECTED, 4000, 'over')]
        assert [endpoint.connections for endpoint in app.websocket_lifecycle.endpoints] == [set()]
