"""Applications written for apistar-websocket in 2018, with nothing but the imports changed, on a real uvicorn."""

import asyncio
import json

import pytest
import requests
from apistar import Route
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from apistar_ws import ASyncApp, WebSocket, WebSocketAutoHook, WebSocketComponent, collect_routes, websocket_route
from tests.servers import IMPLEMENTATIONS, serving


async def welcome_ws(path: str, ws: WebSocket):
    await ws.connect()
    for i in range(100):
        await ws.send(json.dumps({'number': i, 'path': path}))
        assert await ws.receive() == 'got %d' % i
    await ws.close()


async def welcome_hook(path: str, ws: WebSocket):
    for i in range(100):
        await ws.send(json.dumps({'number': i, 'path': path}))
        assert await ws.receive() == 'got %d' % i


async def welcome_error(ws: WebSocket):
    raise RuntimeError('after the hook has connected')


async def welcome_return(ws: WebSocket):
    await ws.connect()


@websocket_route('/decorated')
async def decorated(ws: WebSocket):
    await ws.send('decorated')


def welcome() -> str:
    return 'welcome'


STANDALONE = ASyncApp(
    [
        Route('/', 'GET', welcome),
        Route('/plain/return', 'GET', welcome_return),
        Route('/{+path}', 'GET', handler=welcome_ws, name='welcome_ws', standalone=True),
    ],
    components=[WebSocketComponent()],
)
HOOKED = ASyncApp(
    [
        Route('/', 'GET', welcome),
        Route('/error', 'GET', welcome_error),
        Route('/{+path}', 'GET', handler=welcome_hook, name='welcome_hook'),
    ]
    + collect_routes(decorated),
    components=[WebSocketComponent()],
    event_hooks=[WebSocketAutoHook],
)


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    return request.param


async def conversation(url):
    """Take part in the 2018 conversation; return how often, and how it ends."""
    async with connect(url, proxy=None) as ws:
        count = 0
        with pytest.raises(ConnectionClosed) as info:
            while True:
                message = json.loads(await asyncio.wait_for(ws.recv(), 10))
                await ws.send('got %d' % message['number'])
                count += 1
        return count, info.value.rcvd.code


async def test_standalone_route_still_works(implementation):
    """A standalone route of 2018 connects, sends, receives and closes."""
    with serving(STANDALONE, implementation) as server:
        assert await conversation(server.ws_url + '/some/where') == (100, 1000)


async def test_plain_route_still_works(implementation):
    """A plain route of 2018 without the hook connects and returns."""
    with serving(STANDALONE, implementation) as server:
        assert await conversation(server.ws_url + '/plain/return') == (0, 1000)
        response = await asyncio.to_thread(requests.get, server.http_url + '/', timeout=10)
        assert response.text == 'welcome'


async def test_hook_serves_plain_routes(implementation):
    """The hook connects and closes a plain route of 2018."""
    with serving(HOOKED, implementation) as server:
        assert await conversation(server.ws_url + '/some/where') == (100, 1000)
        assert await conversation(server.ws_url + '/error') == (0, 1011)
        async with connect(server.ws_url + '/decorated', proxy=None) as ws:
            assert await asyncio.wait_for(ws.recv(), 10) == 'decorated'
