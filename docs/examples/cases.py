import asyncio

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.testing import TestClient


@websocket_route('/never-answers')
async def never_answers(ws: WebSocket):
    await ws.receive_text()
    await asyncio.sleep(3600)


@websocket_route('/returns')
async def returns(ws: WebSocket):
    await ws.receive_text()


@websocket_route('/raises-late')
async def raises_late(ws: WebSocket):
    async for message in ws:
        await ws.send(message)
    await asyncio.sleep(0.01)
    raise RuntimeError('could not save')


async def beat():
    while True:
        await asyncio.sleep(3600)


@websocket_route('/leaks-task')
async def leaks_task(ws: WebSocket):
    asyncio.ensure_future(beat())
    async for message in ws:
        await ws.send(message)


client = TestClient(
    ASyncApp(collect_routes(never_answers, returns, raises_late, leaks_task))
)


def echo(url):
    with client.websocket_connect(url) as ws:
        ws.send('hello')
        assert ws.receive() == 'hello'


def test_never_answers():
    echo('/never-answers')


def test_returns():
    echo('/returns')


def test_raises_late():
    echo('/raises-late')


def test_leaks_task():
    echo('/leaks-task')
