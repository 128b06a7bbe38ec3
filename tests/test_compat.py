import pytest
from apistar import Route, TestClient, exceptions

from apistar_ws import ASyncApp, WebSocket, WebSocketAutoHook, WebSocketComponent, collect_routes, websocket_route
from apistar_ws.testing import ConnectionClosed, connect


async def plain(ws: WebSocket):
    await ws.send(ws.state.value)


async def failing(ws: WebSocket):
    raise exceptions.Forbidden()


@websocket_route('/decorated')
async def decorated(ws: WebSocket):
    await ws.send('decorated')


def page() -> str:
    return 'page'


@pytest.fixture
def app():
    routes = [Route('/', 'GET', page), Route('/plain', 'GET', plain), Route('/failing', 'GET', failing)]
    return ASyncApp(
        routes=routes + collect_routes(decorated), components=[WebSocketComponent()], event_hooks=[WebSocketAutoHook]
    )


async def test_hook_connects_plain_routes(app):
    """The hook connects plain routes, and the application closes them."""
    async with connect(app, '/plain') as ws:
        assert await ws.receive() == 'open'
        with pytest.raises(ConnectionClosed) as info:
            await ws.receive()
    assert info.value.code == 1000


async def test_it_leaves_errors_to_the_application(app):
    async with connect(app, '/failing') as ws:
        with pytest.raises(ConnectionClosed) as info:
            await ws.receive()
    assert info.value.code == 4403


async def test_decorated_handlers_work_beside_it(app):
    async with connect(app, '/decorated') as ws:
        assert await ws.receive() == 'decorated'


@pytest.mark.filterwarnings('ignore:There is no current event loop:DeprecationWarning')
def test_plain_http_is_left_alone(app):
    from apistar_ws.testing import TestClient as Client

    assert Client(app).get('/').text == 'page'
    assert TestClient is not Client


async def test_hook_skips_decorated_routes():
    """The hook leaves decorated routes to their decorator."""

    @websocket_route('/choosy', connect=False)
    async def choosy(ws: WebSocket):
        await ws.connect(subprotocol='x')

    app = ASyncApp(collect_routes(choosy), event_hooks=[WebSocketAutoHook])
    async with connect(app, '/choosy', subprotocols=['x']) as ws:
        assert ws.subprotocol == 'x'
