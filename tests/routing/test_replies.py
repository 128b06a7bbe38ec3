"""What a handler returns: sent where its annotation says that it is a message, and said in the log elsewhere."""

from typing import Any, Dict, List, Optional, Union

import pytest
from apistar import types, validators
from apistar.exceptions import ConfigurationError

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.routing.replies import is_message
from apistar_ws.testing import ConnectionClosed, HandshakeDenied, TestClient, connect

CLOSED = {'code': 1000, 'reason': ''}


class Order(types.Type):
    item = validators.String(max_length=5)


class Buy(types.Type):
    type = validators.String(enum=['buy'])


class Cancel(types.Type):
    type = validators.String(enum=['cancel'])


async def conversation(handler, path='/', **options):
    """Return what a client gets, to the close."""
    got = []
    async with connect(ASyncApp(collect_routes(handler)), path, **options) as client:
        try:
            while True:
                got.append(await client.receive())
        except ConnectionClosed as closed:
            return got + [(closed.code, closed.reason)]


@pytest.mark.parametrize(
    'annotation, value, sent',
    [
        (str, 'hello', 'hello'),
        (bytes, b'hello', b'hello'),
        (dict, {'a': 1}, '{"a":1}'),
        (Dict[str, int], {'a': 1}, '{"a":1}'),
        (list, [1], '[1]'),
        (List[int], [1], '[1]'),
        (int, 0, '0'),
        (bool, False, 'false'),
        (Order, Order(item='tea'), '{"item":"tea"}'),
        (Order, {'item': 'tea'}, '{"item":"tea"}'),
        (List[Order], [Order(item='tea')], '[{"item":"tea"}]'),
        (Optional[List[Order]], [Order(item='tea')], '[{"item":"tea"}]'),
        (Optional[Order], Order(item='tea'), '{"item":"tea"}'),
        (Union[Buy, Cancel], Cancel(type='cancel'), '{"type":"cancel"}'),
        ('Order', Order(item='tea'), '{"item":"tea"}'),
    ],
)
async def test_annotated_message_is_sent(annotation, value, sent, caplog):
    """A value whose annotation is a message is sent before the close."""

    async def handler(ws: WebSocket):
        await ws.send('first')
        return value

    handler.__annotations__['return'] = annotation
    assert await conversation(websocket_route('/')(handler)) == ['first', sent, (1000, '')]
    assert caplog.text == ''


async def test_value_is_checked_against_declaration():
    """A returned value is checked against the message types of the route."""

    @websocket_route('/{item}', sends=Order)
    async def handler(ws: WebSocket, item: str) -> dict:
        return {'item': item, 'more': 1}

    assert await conversation(handler, '/tea') == ['{"item":"tea"}', (1000, '')]
    assert await conversation(handler, '/sugar+', raises=False) == [(1011, 'Internal error')]


async def test_optional_list_items_are_checked():
    """The items of an optional list are checked."""

    @websocket_route('/')
    async def handler(ws: WebSocket) -> Optional[List[Order]]:
        return [{'item': 'much too long'}]

    assert await conversation(handler, raises=False) == [(1011, 'Internal error')]


@pytest.mark.parametrize('annotation', [None, Any, Optional[None], object, Order])
async def test_handler_may_return_no_value(annotation, caplog):
    """A handler that returns no value sends no message."""

    async def handler(ws: WebSocket):
        await ws.send('all')

    handler.__annotations__['return'] = annotation
    assert await conversation(websocket_route('/')(handler)) == ['all', (1000, '')]
    assert caplog.text == ''


async def test_unannounced_value_is_not_sent(caplog):
    @websocket_route('/')
    async def handler(ws: WebSocket):
        return [None, 'secret']

    with TestClient(ASyncApp(collect_routes(handler))) as client:
        for _ in range(3):
            with client.websocket_connect('/') as ws, pytest.raises(ConnectionClosed):
                ws.receive()
    assert [record.getMessage() for record in caplog.records] == [
        'The handler tests.routing.test_replies.test_unannounced_value_is_not_sent.<locals>.'
        'handler has returned a value (list) that was discarded: send it by ws.send(), or annotate the handler with '
        'it, as in -> dict.'
    ]


async def test_message_after_close_is_logged(caplog):
    """A message returned after the close is logged."""

    @websocket_route('/')
    async def handler(ws: WebSocket) -> dict:
        await ws.close(4000)
        return {}

    assert await conversation(handler) == [(4000, '')]
    assert 'returned a value (dict) that was discarded: it has closed the connection before.' in caplog.text


async def test_message_after_leaving_is_ignored(caplog):
    """A message returned after the client has left is ignored silently."""

    @websocket_route('/')
    async def handler(ws: WebSocket) -> dict:
        async for _ in ws:
            """Count them, say."""
        return {}

    async with connect(ASyncApp(collect_routes(handler)), '/'):
        """Leave."""
    assert caplog.text == ''


async def test_message_without_connection_is_logged(caplog):
    """A message returned without a connection is logged."""

    @websocket_route('/', connect=False)
    async def handler(ws: WebSocket) -> dict:
        return {}

    with pytest.raises(HandshakeDenied):
        await conversation(handler)
    assert 'that was discarded: it has not called ws.connect().' in caplog.text


def test_nested_type_name_is_refused():
    """The name of a type as text inside an annotation is refused."""

    async def handler(ws: WebSocket) -> List['Order']:
        """It is not run."""

    with pytest.raises(ConfigurationError, match='holds the name of a type, as text: put all of it in quotes'):
        ASyncApp(collect_routes(websocket_route('/')(handler)))


async def test_direct_call_returns_the_value():
    """A handler that is called directly returns its value."""
    from tests.conversations import Peer, channel, opening

    @websocket_route('/')
    async def handler(ws: WebSocket) -> dict:
        return {'a': 1}

    peer = Peer()
    assert await handler(channel(peer, receive=opening(peer))) == {'a': 1}
    assert [message['type'] for message in peer.sent] == ['websocket.accept', 'websocket.close']


def test_only_json_types_are_messages():
    """Only annotations of JSON types are messages."""
    assert is_message(Dict[str, Order]) and is_message(Optional[str])
    assert not any(map(is_message, (None, type(None), object, Any, WebSocket, Union[str, WebSocket])))
