"""No sequence of calls breaks the protocol: every call in every order, against a model of the ASGI specification."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apistar_ws import InvalidMessage, Settings, WebSocket, WebSocketDisconnect, WebSocketState, WebSocketStateError
from apistar_ws.connection.websocket import connection_of
from tests.conversations import CONNECT, disconnect, scope, text
from tests.sizes import size

#: Which messages an application may send next, by where the connection stands (ASGI specification, WebSocket).
LEGAL = {
    'handshake': {
        'websocket.accept': 'open',
        'websocket.close': 'over',
        'websocket.http.response.start': 'denied',
    },
    'denied': {'websocket.http.response.body': 'over'},
    'open': {'websocket.send': 'open', 'websocket.close': 'over'},
    'over': {},
}
EXPECTED = (WebSocketDisconnect, WebSocketStateError, InvalidMessage, ValueError, TypeError)


class ModelServer:
    """A server that knows which messages are legal, and a client that may leave."""

    def __init__(self):
        self.stands = 'handshake'
        self.illegal = []
        self.gone = False
        self.waiting = asyncio.Queue()
        self.waiting.put_nowait(CONNECT)

    async def receive(self):
        return await self.waiting.get()

    async def send(self, message):
        if self.gone:
            raise OSError('The client has left.')
        if message['type'] not in LEGAL[self.stands]:
            self.illegal.append((self.stands, message))  # pragma: no cover
        if message['type'] == 'websocket.send':
            assert (message.get('text') is None) != (message.get('bytes') is None)
            (message.get('text') or '').encode()
        if message['type'] == 'websocket.close':
            assert (
                message['code'] in range(1000, 1004) or message['code'] in range(1007, 1015) or message['code'] >= 3000
            )
            assert len(message['reason'].encode()) <= 123
            self.waiting.put_nowait(disconnect(message['code']))
        self.stands = LEGAL[self.stands].get(message['type'], 'over')

    def leave(self):
        self.gone = True
        self.waiting.put_nowait(disconnect(1001, 'away'))


class Channel(RuleBasedStateMachine):
    """The channel object under every sequence of calls and events."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.server = ModelServer()
        self.ws = WebSocket(
            scope('/', subprotocols=['a', 'b']),
            self.server.receive,
            self.server.send,
            Settings(subprotocols=['b'], max_message_size=8, max_messages_per_second=50),
        )

    def teardown(self):
        self.loop.run_until_complete(connection_of(self.ws).finish())
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def call(self, coro):
        """Await one call; a call that waits for the client is given up. Only what is documented may be raised."""

        async def bounded():
            task = asyncio.ensure_future(coro)
            for _ in range(20):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is not None:
                assert isinstance(task.exception(), EXPECTED), repr(task.exception())

        self.loop.run_until_complete(bounded())

    @initialize(opened=st.sampled_from([True, True, False]))
    def open(self, opened):
        if opened:
            self.call(self.ws.connect())

    @rule(subprotocol=st.sampled_from([None, 'a', 'c']), headers=st.sampled_from([None, {'x': 'y'}, {'x': '\n'}]))
    def connect(self, subprotocol, headers):
        self.call(self.ws.connect(subprotocol, headers))

    @rule(status=st.sampled_from([403, 404]))
    def deny(self, status):
        self.call(self.ws.deny(status, [], b'no'))

    @rule(name=st.sampled_from(['receive', 'recv', 'receive_text', 'receive_bytes', 'receive_json', '__anext__']))
    def receive(self, name):
        async def receive():
            try:
                await getattr(self.ws, name)()
            except StopAsyncIteration:
                """The end of the iteration."""

        self.call(receive())

    @rule(data=st.one_of(st.text(), st.binary(), st.none(), st.just('\ud800')))
    def send(self, data):
        self.call(self.ws.send(data))

    @rule(value=st.one_of(st.text(), st.integers(), st.floats(), st.just(object())))
    def send_json(self, value):
        self.call(self.ws.send_json(value))

    @rule(code=st.sampled_from([1000, 1001, 1005, 1011, 3000, 4999, 5000, -1]), reason=st.text(max_size=200))
    def close(self, code, reason):
        self.call(self._close(code, reason))

    async def _close(self, code, reason):
        # A code that must not be sent is refused at the call.
        await self.ws.close(code, reason)

    @rule()
    def read_ahead(self):
        if (
            connection_of(self.ws).loop is not None
            and connection_of(self.ws).ahead is None
            and not connection_of(self.ws).is_receiving
        ):
            self.call(self._read_ahead())

    async def _read_ahead(self):
        connection_of(self.ws).read_ahead()

    @rule(code=st.sampled_from([1001, 1008]))
    def abort(self, code):
        async def abort():
            connection_of(self.ws).abort(code, 'limit')

        self.call(abort())

    @precondition(lambda self: self.server.stands == 'open' and not self.server.gone)
    @rule(message=st.one_of(st.text(max_size=12), st.binary(max_size=12), st.sampled_from(['{}', '[1]'])))
    def client_sends(self, message):
        kind = 'text' if isinstance(message, str) else 'bytes'
        self.server.waiting.put_nowait({**text(''), 'text': None, kind: message})

    @precondition(lambda self: not self.server.gone)
    @rule()
    def client_leaves(self):
        self.server.leave()

    @invariant()
    def nothing_illegal_was_sent(self):
        assert self.server.illegal == []

    @invariant()
    def the_state_is_that_of_the_connection(self):
        assert {
            'handshake': self.ws.state in (WebSocketState.CONNECTING, WebSocketState.DISCONNECTED) or self.server.gone,
            'open': self.ws.state in (WebSocketState.OPEN, WebSocketState.DISCONNECTED) or self.server.gone,
            'over': self.ws.state in (WebSocketState.CLOSED, WebSocketState.DISCONNECTED),
            'denied': False,
        }[self.server.stands]


TestChannel = Channel.TestCase
TestChannel.settings = settings(max_examples=size(50, 200), stateful_step_count=30)
