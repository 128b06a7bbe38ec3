from typing import List

import pytest
from apistar import types, validators
from apistar.exceptions import ConfigurationError

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener
from apistar_ws.testing import ConnectionClosed, connect
from tests.conversations import Peer, channel


class Order(types.Type):
    item = validators.String(max_length=10)


class Cancel(types.Type):
    type = validators.String(enum=['cancel'])


class Buy(types.Type):
    type = validators.String(enum=['buy'])


class Receipt(types.Type):
    total = validators.Integer()


class TestListener:
    async def test_it_is_called_for_each_message_and_replies_what_it_returns(self):
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

    async def test_it_may_ask_for_nothing_but_the_message(self):
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

    async def test_a_union_is_told_apart_by_type(self):
        @websocket_listener('/trade', sends=validators.String())
        async def trade(message: Buy | Cancel):
            return type(message).__name__

        async with connect(ASyncApp(collect_routes(trade)), '/trade') as ws:
            for kind, name in [('buy', 'Buy'), ('cancel', 'Cancel')]:
                await ws.send_json({'type': kind})
                assert await ws.receive_json() == name

    async def test_a_list_of_types_is_one_message(self):
        @websocket_listener('/all')
        async def order_all(message: List[Order]) -> List[Receipt]:
            return [{'total': len(order.item)} for order in message]

        async with connect(ASyncApp(collect_routes(order_all)), '/all') as ws:
            await ws.send_json([{'item': 'tea'}, {'item': 'milk'}])
            assert await ws.receive_json() == [{'total': 3}, {'total': 4}]

    def test_a_message_of_another_type_is_refused(self):
        @websocket_listener('/x')
        async def listener(message: dict):
            """Take what is no message type."""

        with pytest.raises(ConfigurationError, match='listener annotates its message with'):
            ASyncApp(collect_routes(listener))

    @pytest.mark.parametrize('kind, message, reason', [(str, b'a', 'Expected text'), (bytes, 'a', 'Expected bytes')])
    async def test_text_and_bytes_can_be_insisted_on(self, kind, message, reason):
        @websocket_listener('/x')
        async def listener(message: kind):
            """Take it."""

        async with connect(ASyncApp(collect_routes(listener)), '/x') as ws:
            await ws.send(message)
            with pytest.raises(ConnectionClosed) as info:
                await ws.receive()
        assert (info.value.code, info.value.reason) == (1003, reason)

    async def test_called_by_itself_it_is_what_it_was(self):
        @websocket_listener('/x')
        async def double(message: str, ws: WebSocket) -> str:
            return message * 2

        assert await double('a', channel(Peer())) == 'aa'

    def test_it_needs_an_argument_for_the_message(self):
        @websocket_listener('/x')
        async def listener(ws: WebSocket):
            """Take nothing."""

        with pytest.raises(ConfigurationError, match='listener needs an argument named message'):
            ASyncApp(collect_routes(listener))
