"""Everything that README.rst shows is run here."""

import re
import sys
import types

import pytest
from websockets.asyncio.client import connect as websockets_connect

from apistar_ws import ASyncApp, collect_routes
from apistar_ws.testing import ConnectionClosed, HandshakeDenied, TestClient
from tests.servers import ROOT, serving

README = (ROOT / 'README.rst').read_text(encoding='utf-8')
BLOCKS = [
    re.sub('^    ', '', block, flags=re.MULTILINE)
    for block in re.findall(r'\.\. code-block:: python\n\n((?:    .*\n|\n)+)', README)
]
PROGRAM, HANDLER, GUARD, RESOURCE, GROUPS, TYPED, TEST = BLOCKS


def run(block, **names):
    namespace = dict(names)
    exec(block, namespace)
    return namespace


async def test_program_serves_a_client():
    """The program serves a WebSocket client."""
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
def test_handler_does_as_documented(question, close):
    """The handler denies, replies and closes as the text says."""
    app = ASyncApp(collect_routes(run(HANDLER)['pages']), event_hooks=[run(GUARD)['Guard']])
    client = TestClient(app)
    with pytest.raises(HandshakeDenied) as denied:
        with client.websocket_connect('/rooms/a/5'):
            """Not get here."""
    assert denied.value.status == 403
    client.headers['Authorization'] = 'Bearer secret'
    with client.websocket_connect('/rooms/a/5?limit=7', subprotocols=['v1']) as ws:
        assert ws.receive_json() == {'room': 'a', 'page': 5, 'limit': 7, 'subprotocol': 'v1'}
        ws.send(question)
        if question == 'bytes':
            assert ws.receive() == b'\x00\x01'
        with pytest.raises(ConnectionClosed) as info:
            ws.receive()
    assert (info.value.code, info.value.reason) == close
    client.close()


def test_resource_closes_after_each_message(capsys):
    """The resource is closed after each message."""
    names = run(RESOURCE)
    client = TestClient(ASyncApp(collect_routes(names['note']), components=[names['SessionComponent']()]))
    with client.websocket_connect('/notes') as ws:
        for message in ('tea', 'milk'):
            ws.send(message)
            assert ws.receive() == 'noted'
        ws.send('coal')
        with pytest.raises(ConnectionClosed, match='4404'):
            ws.receive()
    assert capsys.readouterr().out == "commit ['tea']\ncommit ['milk']\nroll back ['coal']\n"
    client.close()


def test_room_has_members_and_history():
    """The room announces its members and replays its history."""
    client = TestClient(run(GROUPS)['app'])
    with client.websocket_connect('/rooms/a?name=Ann') as ann, client.websocket_connect('/rooms/a') as other:
        start = ann.receive_json()['position']
        assert other.receive_json() == {'position': start}
        ann.send('hello')
        assert other.receive_json() == {'name': 'Ann', 'text': 'hello', 'position': start[:-1] + '1'}
        assert sorted(client.get('/rooms/a/people').json()) == ['Ann', 'somebody']
        assert client.post('/rooms/a/announce?text=tea').json() == {'position': start[:-1] + '2'}
        assert other.receive_json()['text'] == 'tea'
    with client.websocket_connect('/rooms/a?since=' + start) as ann:
        assert [ann.receive_json().get('text') for _ in range(3)] == ['hello', 'tea', None]
    client.close()


def test_typed_messages_are_taken_and_answered():
    names = run(TYPED)
    client = TestClient(ASyncApp(collect_routes(names['orders'], names['one'], names['totals'])))
    with client.websocket_connect('/totals') as ws:
        assert list(ws) == ['{"total":0}', '{"total":1}', '{"total":2}']
    for url in ('/orders', '/orders/one-by-one'):
        with client.websocket_connect(url) as ws:
            ws.send_json({'item': 'tea', 'count': 2})
            assert ws.receive_json() == {'total': 10}
            ws.send_json({'count': 2})
            with pytest.raises(ConnectionClosed) as info:
                ws.receive()
        assert info.value.code == 1007
    client.close()


def test_the_tests_are_some_that_pass(monkeypatch):
    module = types.ModuleType('app')
    module.app = run(PROGRAM)['app']
    monkeypatch.setitem(sys.modules, 'app', module)
    tests = run(TEST)
    tests['test_chat']()
    tests['test_no_chat']()
