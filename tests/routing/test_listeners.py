import asyncio
import itertools
import json
from typing import AsyncIterator, Iterator, List

import pytest
from apistar import exceptions, types, validators
from apistar.exceptions import ConfigurationError
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, WebSocketComponent, collect_routes, websocket_listener, websocket_route
from apistar_ws.testing import ConnectionClosed, connect
from tests.clock import virtual
from tests.conversations import ACCEPT, CONNECT, Peer, channel, closed, disconnect, run, scope, text

ERROR = closed(1011, 'Internal error')


class Order(types.Type):
    item = validators.String(max_length=10)


class Cancel(types.Type):
    type = validators.String(enum=['cancel'])


class Buy(types.Type):
    type = validators.String(enum=['buy'])


class Receipt(types.Type):
    total = validators.Integer()


class TestStacked:
    """Decorators of two kinds on one function, which is either a handler or a listener."""

    @pytest.mark.parametrize('upper, lower', list(itertools.permutations([websocket_route, websocket_listener])))
    def test_two_kinds_are_refused(self, upper, lower):
        """The error names the function, both decorators and the way out."""
        names = (upper.__name__, lower.__name__, lower.__name__)
        said = r"^%s\('/b'\): .*\.both has the decorator %s already, .* Use %s for both URLs, or write" % names
        with pytest.raises(ConfigurationError, match=said):

            @upper('/b')
            @lower('/a')
            async def both(message, ws: WebSocket):
                """Not run."""

    async def test_one_kind_makes_two_routes(self):
        """Two listeners on one function are two routes."""

        @websocket_listener('/b')
        @websocket_listener('/a')
        async def echo(message):
            return message

        for url in ('/a', '/b'):
            async with connect(ASyncApp(collect_routes(echo)), url) as ws:
                await ws.send('x')
                assert await ws.receive() == 'x'


class TestDeclared:
    """Message types that a decorator declares."""

    @pytest.mark.parametrize('decorator, argument', [(websocket_route, 'sends'), (websocket_listener, 'receives')])
    @pytest.mark.parametrize('kind, advised', [(List[Order], 'Order'), (List[int], '...')])
    def test_lists_are_answered_with_their_validator(self, decorator, argument, kind, advised):
        """The error names decorator, argument and function, and what to write."""
        with pytest.raises(ConfigurationError) as info:

            @decorator('/', **{argument: kind})
            async def orders(message, ws: WebSocket):
                """Not run."""

        where, _, problem = str(info.value).partition('<locals>.orders: ')
        assert where.startswith("%s('/'): %s= of %s." % (decorator.__name__, argument, __name__))
        assert problem.startswith('%r is not a message type: use a types.Type, ' % kind)
        assert problem.endswith(' For a message that is a list write validators.Array(items=%s).' % advised)

    def test_other_annotations_have_no_advice(self):
        """What is no list may be meant in many ways."""
        with pytest.raises(ConfigurationError, match=r'is not a message type: .* or a list of types\.Types\.$'):

            @websocket_listener('/', receives=Iterator[Order])
            async def orders(message):
                """Not run."""


class TestListener:
    async def test_listener_replies_to_each_message(self):
        """A listener is called for each message and its return value is the reply."""

        @websocket_listener('/orders/{shop}')
        async def order(message: Order, shop: str, ws: WebSocket) -> Receipt:
            ws.count = getattr(ws, 'count', 0) + 1
            return Receipt(total=ws.count * len(shop + message.item))

        async with connect(ASyncApp(collect_routes(order)), '/orders/ab') as ws:
            for total in (5, 10):
                await ws.send_json({'item': 'tea'})
                assert await ws.receive_json() == {'total': total}
            await ws.send_json({'item': 5})
            with pytest.raises(ConnectionClosed) as info:
                await ws.receive()
        assert (info.value.code, info.value.reason) == (1007, 'Invalid message: item')

    async def test_message_is_the_only_requirement(self):
        """A listener may take the message alone."""

        @websocket_listener('/echo')
        async def echo(message):
            return None if message == 'quiet' else message

        async with connect(ASyncApp(collect_routes(echo)), '/echo') as ws:
            await ws.send('quiet')
            await ws.send('a')
            assert await ws.receive() == 'a'
            await ws.send(b'a')
            assert await ws.receive() == b'a'

    async def test_other_values_are_replied_as_json(self):
        @websocket_listener('/length', receives=validators.Array())
        async def length(message) -> dict:
            return {'length': len(message)}

        async with connect(ASyncApp(collect_routes(length)), '/length') as ws:
            await ws.send('[1, 2]')
            assert await ws.receive_json() == {'length': 2}

    async def test_union_is_distinguished_by_type(self):
        """The types of a union are distinguished by their type field."""

        @websocket_listener('/trade', sends=validators.String())
        async def trade(message: Buy | Cancel):
            return type(message).__name__

        async with connect(ASyncApp(collect_routes(trade)), '/trade') as ws:
            for kind, name in [('buy', 'Buy'), ('cancel', 'Cancel')]:
                await ws.send_json({'type': kind})
                assert await ws.receive_json() == name

    async def test_list_of_types_is_one_message(self):
        """A list of a type is one message."""

        @websocket_listener('/all')
        async def order_all(message: List[Order]) -> List[Receipt]:
            return [{'total': len(order.item)} for order in message]

        async with connect(ASyncApp(collect_routes(order_all)), '/all') as ws:
            await ws.send_json([{'item': 'tea'}, {'item': 'milk'}])
            assert await ws.receive_json() == [{'total': 3}, {'total': 4}]

    def test_unsupported_message_type_is_refused(self):
        """An annotation that is not a message type is refused."""

        @websocket_listener('/x')
        async def listener(message: dict):
            """Take what is no message type."""

        with pytest.raises(ConfigurationError, match='listener annotates its message with'):
            ASyncApp(collect_routes(listener))

    @pytest.mark.parametrize('kind, message, reason', [(str, b'a', 'Expected text'), (bytes, 'a', 'Expected bytes')])
    async def test_text_or_bytes_may_be_required(self, kind, message, reason):
        """Text or bytes can be required, and the other kind closes with 1003."""

        @websocket_listener('/x')
        async def listener(message: kind):
            """Take it."""

        async with connect(ASyncApp(collect_routes(listener)), '/x') as ws:
            await ws.send(message)
            with pytest.raises(ConnectionClosed) as info:
                await ws.receive()
        assert (info.value.code, info.value.reason) == (1003, reason)

    async def test_direct_call_is_unchanged(self):
        """Called directly, a listener is the original function."""

        @websocket_listener('/x')
        async def double(message: str, ws: WebSocket) -> str:
            return message * 2

        assert await double('a', channel(Peer())) == 'aa'

    def test_message_argument_is_required(self):
        """A listener without an argument for the message is refused."""

        @websocket_listener('/x')
        async def listener(ws: WebSocket):
            """Take nothing."""

        with pytest.raises(ConfigurationError, match='listener needs an argument named message'):
            ASyncApp(collect_routes(listener))


notes = []


class Pool:
    """What is opened once."""


class Session:
    """What is opened for each message."""


class Orders:
    """What stands on the session."""

    def __init__(self, session):
        self.session = session


class PoolComponent(Component):
    def resolve(self) -> Iterator[Pool]:
        notes.append('pool opened')
        yield Pool()
        notes.append('pool closed')


class SessionComponent(Component):
    async def resolve(self, pool: Pool) -> AsyncIterator[Session]:
        notes.append('session opened')
        try:
            yield Session()
        except BaseException as exc:
            notes.append('session rolled back, %s' % type(exc).__name__)
        else:
            notes.append('session closed')


class OrdersComponent(Component):
    def resolve(self, session: Session) -> Orders:
        return Orders(session)


class NotingPeer(Peer):
    async def send(self, message):
        notes.append(message['type'].partition('.')[2])
        await super().send(message)


class Encoding:
    """Notes when a reply is encoded."""

    loads = staticmethod(json.loads)

    @staticmethod
    def dumps(value):
        notes.append('encoded')
        return json.dumps(value)


class TestPerMessage:
    @pytest.fixture(autouse=True)
    def forget(self):
        notes.clear()

    def made(self, listener, *hooks):
        components = [PoolComponent(), SessionComponent(), OrdersComponent(), WebSocketComponent(json=Encoding)]
        return ASyncApp(collect_routes(listener), components=components, event_hooks=list(hooks))

    async def test_named_resources_are_new_each_time(self):
        """The named resource and those that need it are new for each message."""
        seen = []

        @websocket_listener('/orders/{shop}', per_message=['session'])
        async def order(message: str, shop: str, session: Session, orders: Orders, pool: Pool, ws: WebSocket):
            seen.append((session, pool))
            assert orders.session is session
            return {'shop': shop}

        peer = NotingPeer(CONNECT, text('a'), text('b'), disconnect())
        await run(self.made(order), scope('/orders/x'), peer)
        each = ['session opened', 'encoded', 'session closed', 'send']
        assert notes == ['pool opened', 'accept', *each, *each, 'pool closed']
        assert (len({session for session, _ in seen}), len({pool for _, pool in seen})) == (2, 1)

    async def test_hook_has_its_own_resource(self):
        """A hook that asks for the resource has one of its own."""

        class Guard:
            def on_request(self, session: Session):
                self.session = session

            def on_response(self, session: Session):
                notes.append(session is self.session)

        @websocket_listener('/orders', per_message=('session',))
        async def order(message, session: Session):
            """Say nothing."""

        await run(self.made(order, Guard), scope('/orders'), NotingPeer(CONNECT, text('a'), disconnect()))
        assert notes == [
            'pool opened', 'session opened', 'accept', 'session opened', 'session closed', True, 'session closed',
            'pool closed',
        ]  # fmt: skip

    @pytest.mark.parametrize(
        'exc, close', [(exceptions.NotFound('No tea'), closed(4404, 'No tea')), (KeyError(), ERROR)]
    )
    async def test_exception_is_thrown_in(self, exc, close):
        """An exception of the function is thrown into the resource and closes."""

        @websocket_listener('/orders', per_message=['session'])
        async def order(message, session: Session):
            raise exc

        peer = NotingPeer(CONNECT, text('a'), text('b'))
        assert await run(self.made(order), scope('/orders'), peer) == [ACCEPT, close]
        assert notes[2:4] == ['session opened', 'session rolled back, %s' % type(exc).__name__]

    async def test_failed_commit_sends_no_reply(self, caplog):
        """A failed commit sends no reply and is logged with its component."""

        class Failing(Component):
            def resolve(self) -> Iterator[Session]:
                try:
                    yield Session()
                except KeyError:
                    raise OSError('disk full') from None

        class Last(Component):
            def resolve(self, session: Session) -> Iterator[Pool]:
                yield Pool()
                raise KeyError

        @websocket_listener('/orders', per_message=['session'])
        async def order(message, session: Session, pool: Pool):
            return message

        app = ASyncApp(collect_routes(order), components=[Failing(), Last()])
        assert await run(app, scope('/orders'), Peer(CONNECT, text('a'))) == [ACCEPT, ERROR]
        assert [record.getMessage().rpartition('.<locals>.')[2] for record in caplog.records] == [
            'Failing.resolve failed when it was closed.',
            'Last.resolve failed.',
        ]

    async def test_failed_component_is_logged(self, caplog):
        """A component that fails is logged with its name."""

        class Failing(Component):
            def resolve(self) -> Session:
                raise OSError('no database')

        @websocket_listener('/orders', per_message=['session'])
        async def order(message, session: Session):
            """Not run."""

        app = ASyncApp(collect_routes(order), components=[Failing()])
        assert await run(app, scope('/orders'), Peer(CONNECT, text('a'))) == [ACCEPT, ERROR]
        assert [record.getMessage().rpartition('.<locals>.')[2] for record in caplog.records] == [
            'Failing.resolve failed.'
        ]

    async def test_disconnect_is_thrown_in(self):
        """A client that leaves throws the disconnect into the open resource."""

        @websocket_listener('/orders', per_message=['session'])
        async def order(message, session: Session):
            await asyncio.sleep(3600)

        await run(self.made(order), scope('/orders'), Peer(CONNECT, text('a'), disconnect()))
        assert notes[2:] == ['session rolled back, WebSocketDisconnect']

    async def test_cancellation_survives_failed_closing(self, caplog):
        """A cancellation continues although closing a resource fails."""

        class Failing(Component):
            def resolve(self) -> Iterator[Session]:
                try:
                    yield Session()
                finally:
                    raise OSError('disk full')

        @websocket_listener('/orders', per_message=['session'])
        async def order(message, session: Session):
            begun.set()
            await asyncio.sleep(3600)

        begun = asyncio.Event()
        app, peer = ASyncApp(collect_routes(order), components=[Failing()]), Peer(CONNECT, text('a'))
        task = asyncio.ensure_future(app(scope('/orders'), peer.receive, peer.send))
        await asyncio.wait_for(begun.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT, closed(1012)]
        assert [record.exc_info[0] for record in caplog.records] == [OSError]

    async def test_first_exception_decides(self, caplog):
        """A failure after an exception is logged, and the exception decides."""

        class Failing(Component):
            def resolve(self) -> Iterator[Session]:
                try:
                    yield Session()
                finally:
                    raise OSError('disk full')

        @websocket_listener('/orders', per_message=['session'])
        async def order(message, session: Session):
            raise exceptions.NotFound('No tea')

        app = ASyncApp(collect_routes(order), components=[Failing()])
        assert await run(app, scope('/orders'), Peer(CONNECT, text('a'))) == [ACCEPT, closed(4404, 'No tea')]
        assert [record.exc_info[0] for record in caplog.records] == [OSError]

    @pytest.mark.parametrize(
        'names, problem',
        [
            ('session', 'a list of names, not a text'),
            (['nothing'], "'nothing', which is no argument of the listener tests.routing.test_listeners"),
            (['message'], "'message', which is no argument"),
            (['shop'], "'shop' of the listener .* which no component supplies"),
            (['ws'], "'ws' of the listener .* which no component supplies"),
        ],
    )
    def test_invalid_names_are_refused(self, names, problem):
        """Names that cannot be resources are refused."""
        with pytest.raises(ConfigurationError, match=problem):

            @websocket_listener('/orders/{shop}', per_message=names)
            async def order(message, shop, session: Session, ws: WebSocket):
                """Not run."""

            self.made(order)


class TestDisconnectDuringCommit:
    """A client that leaves while the resources of its message are closed."""

    async def seen(self, seconds, message):
        """Return what the resources and the handler note, and how long it takes."""
        seen = []

        class Sessions(Component):
            async def resolve(self) -> AsyncIterator[Slow]:
                try:
                    yield Slow()
                    seen.append('commit')
                    await asyncio.sleep(seconds)
                    seen.append('committed')
                except BaseException as exc:
                    seen.append(type(exc).__name__)
                    raise

        @websocket_listener('/', per_message=['session'])
        async def listener(message: str, session: Slow) -> str:
            return message

        peer = Peer(CONNECT, text('a'))
        app = ASyncApp(collect_routes(listener), components=[Sessions()])
        serving = asyncio.ensure_future(app(scope('/'), peer.receive, peer.send))
        await asyncio.sleep(0.5)
        peer.add(message)
        begun = asyncio.get_running_loop().time()
        await asyncio.wait({serving}, timeout=60)
        assert peer.sent[0] == ACCEPT and not [item for item in peer.sent if item['type'] == 'websocket.send']
        return seen, asyncio.get_running_loop().time() - begun

    @virtual
    async def test_the_commit_runs_to_its_end(self):
        seen, took = await self.seen(1.5, disconnect())
        assert seen == ['commit', 'committed'] and took < 1.1

    @virtual
    async def test_hanging_commit_is_cancelled(self):
        """A commit that hangs is cancelled."""
        seen, took = await self.seen(3600, disconnect())
        assert seen == ['commit', 'CancelledError'] and took < 3

    @virtual
    async def test_a_limit_waits_for_it_too(self):
        seen, took = await self.seen(1.5, text('x' * 2_000_000))
        assert seen == ['commit', 'committed'] and took < 1.1


class Slow:
    """A session whose commit takes its time."""
