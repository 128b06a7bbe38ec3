"""Everything that README.rst shows is run here."""

import re

import pytest
from apistar import exceptions, http, types, validators
from websockets.asyncio.client import connect as websockets_connect

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route
from apistar_ws.testing import ConnectionClosed, TestClient
from tests.servers import ROOT, serving

README = (ROOT / 'README.rst').read_text(encoding='utf-8')
BLOCKS = [
    re.sub('^    ', '', block, flags=re.MULTILINE)
    for block in re.findall(r'\.\. code-block:: python\n\n((?:    .*\n|\n)+)', README)
]
PROGRAM, HANDLER, TYPED, TEST = BLOCKS


def run(block, **names):
    namespace = dict(names)
    exec(block, namespace)
    return namespace


async def test_the_program_serves_a_page_and_a_client():
    with serving(run(PROGRAM)['app']) as server:
        async with websockets_connect(server.ws_url + '/chat/lobby', proxy=None) as ws:
            await ws.send('hello')
            assert await ws.recv() == 'lobby: hello'


def test_the_program_serves_its_page():
    client = TestClient(run(PROGRAM)['app'])
    response = client.get('/')
    assert (response.status_code, response.headers['content-type']) == (200, 'text/html; charset=utf-8')
    assert '/chat/lobby' in response.text
    client.close()


@pytest.mark.parametrize(
    'question, close',
    [('bytes', (1000, '')), ('stop', (4000, 'You said so')), ('secret', (4403, 'Forbidden')), ('x', (1000, ''))],
)
def test_the_handler_does_what_it_is_said_to_do(question, close):
    names = run(HANDLER, websocket_route=websocket_route, WebSocket=WebSocket, http=http, exceptions=exceptions)
    client = TestClient(ASyncApp(collect_routes(names['pages'])))
    with client.websocket_connect('/rooms/a/5?limit=7', subprotocols=['v1']) as ws:
        assert ws.receive_json() == {'room': 'a', 'page': 5, 'limit': 7, 'subprotocol': 'v1'}
        ws.send(question)
        if question == 'bytes':
            assert ws.receive() == b'\x00\x01'
        with pytest.raises(ConnectionClosed) as info:
            ws.receive()
    assert (info.value.code, info.value.reason) == close
    client.close()


def test_typed_messages_are_taken_and_answered():
    names = run(
        TYPED,
        websocket_route=websocket_route,
        websocket_listener=websocket_listener,
        WebSocket=WebSocket,
        types=types,
        validators=validators,
    )
    client = TestClient(ASyncApp(collect_routes(names['orders'], names['one'])))
    for url in ('/orders', '/orders/one-by-one'):
        with client.websocket_connect(url) as ws:
            ws.send_json({'item': 'tea', 'count': 2})
            assert ws.receive_json() == {'total': 10}
            ws.send_json({'count': 2})
            with pytest.raises(ConnectionClosed) as info:
                ws.receive()
        assert info.value.code == 1007
    client.close()


def test_the_test_is_one_that_passes():
    run(TEST, app=run(PROGRAM)['app'])['test_chat']()
