import pytest
from apistar import Route, exceptions, http

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.testing import ConnectionClosed, HandshakeDenied, TestClient, connect


def enter() -> http.JSONResponse:
    return http.JSONResponse('Come in', headers={'Set-Cookie': 'visitor=Ada; Path=/'})


@websocket_route('/chat/{room}', subprotocols=['chat'])
async def chat(room: str, ws: WebSocket, times: int = 1):
    if 'visitor' not in ws.cookies:
        raise exceptions.Forbidden('Enter first')
    async for message in ws:
        await ws.send_json(
            {'room': room, 'visitor': ws.cookies['visitor'], 'text': message * times}
        )


@websocket_route('/door', connect=False)
async def door(ws: WebSocket):
    if 'x-key' not in ws.headers:
        raise exceptions.Forbidden({'key': 'missing'})
    await ws.connect(headers={'X-Door': 'open'})


app = ASyncApp([Route('/enter', 'POST', enter)] + collect_routes(chat, door))


def test_a_message_is_answered():
    client = TestClient(app)
    client.post('/enter')
    with client.websocket_connect('/chat/hall?times=2', subprotocols=['chat']) as ws:
        assert ws.subprotocol == 'chat'
        ws.send('hey')
        assert ws.receive_json() == {'room': 'hall', 'visitor': 'Ada', 'text': 'heyhey'}


def test_without_a_cookie_the_connection_is_closed():
    with TestClient(app).websocket_connect('/chat/hall') as ws:
        with pytest.raises(ConnectionClosed) as info:
            ws.receive()
    assert (info.value.code, info.value.reason) == (4403, 'Enter first')


def test_without_a_key_the_handshake_is_denied():
    with pytest.raises(HandshakeDenied) as info:
        with TestClient(app).websocket_connect('/door'):
            pass
    assert (info.value.status, info.value.json()) == (403, {'key': 'missing'})
    assert info.value.headers['content-type'] == 'application/json'


def test_headers_of_the_client_go_with_every_call():
    client = TestClient(app)
    client.headers['X-Key'] = 'brass'
    with client.websocket_connect('/door') as ws:
        assert ws.headers['x-door'] == 'open'


# Needs pytest-asyncio, with asyncio_mode = auto.
async def test_the_same_in_an_async_test():
    async with connect(
        app, '/chat/hall', headers={'Cookie': 'visitor=Ada'}, timeout=2.0
    ) as ws:
        await ws.send('hey')
        assert (await ws.receive_json())['text'] == 'hey'
