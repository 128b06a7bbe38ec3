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
async def test_a_value_whose_annotation_is_a_message_is_sent_before_the_close(annotation, value, sent, caplog):
    async def handler(ws: WebSocket):
        await ws.send('first')
        return value

    handler.__annotations__['return'] = annotation
    assert await conversation(websocket_route('/')(handler)) == ['first', sent, (1000, '')]
    assert caplog.text == ''


async def test_a_value_is_held_against_what_the_route_sends():
    @websocket_route('/{item}', sends=Order)
    async def handler(ws: WebSocket, item: str) -> dict:
        return {'item': item, 'more': 1}

    assert await conversation(handler, '/tea') == ['{"item":"tea"}', (1000, '')]
    assert await conversation(handler, '/sugar+', raises=False) == [(1011, 'Internal error')]


async def test_items_of_a_list_are_checked_also_where_there_may_be_none():
    @websocket_route('/')
    async def handler(ws: WebSocket) -> Optional[List[Order]]:
        return [{'item': 'much too long'}]

    assert await conversation(handler, raises=False) == [(1011, 'Internal error')]


@pytest.mark.parametrize('annotation', [None, Any, Optional[None], object, Order])
async def test_nothing_that_is_returned_is_no_message(annotation, caplog):
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


async def test_a_message_that_is_returned_behind_the_close_is_said_in_the_log(caplog):
    @websocket_route('/')
    async def handler(ws: WebSocket) -> dict:
        await ws.close(4000)
        return {}

    assert await conversation(handler) == [(4000, '')]
    assert 'returned a value (dict) that was discarded: it has closed the connection before.' in caplog.text


async def test_a_message_that_is_returned_to_a_client_that_has_left_is_no_mistake(caplog):
    @websocket_route('/')
    async def handler(ws: WebSocket) -> dict:
        async for _ in ws:
            """Count them, say."""
        return {}

    async with connect(ASyncApp(collect_routes(handler)), '/'):
        """Leave."""
    assert caplog.text == ''


async def test_a_message_that_is_returned_without_a_connection_is_said_in_the_log(caplog):
    @websocket_route('/', connect=False)
    async def handler(ws: WebSocket) -> dict:
        return {}

    with pytest.raises(HandshakeDenied):
        await conversation(handler)
    assert 'that was discarded: it has not called ws.connect().' in caplog.text


def test_the_name_of_a_type_inside_of_an_annotation_is_refused():
    async def handler(ws: WebSocket) -> List['Order']:
        """It is not run."""

    with pytest.raises(ConfigurationError, match='holds the name of a type, as text: put all of it in quotes'):
        ASyncApp(collect_routes(websocket_route('/')(handler)))


async def test_a_handler_that_is_called_by_hand_returns_what_it_returns():
    from tests.conversations import Peer, channel, opening

    @websocket_route('/')
    async def handler(ws: WebSocket) -> dict:
        return {'a': 1}

    peer = Peer()
    assert await handler(channel(peer, receive=opening(peer))) == {'a': 1}
    assert [message['type'] for message in peer.sent] == ['websocket.accept', 'websocket.close']


def test_only_what_json_has_is_a_message():
    assert is_message(Dict[str, Order]) and is_message(Optional[str])
    assert not any(map(is_message, (None, type(None), object, Any, WebSocket, Union[str, WebSocket])))
