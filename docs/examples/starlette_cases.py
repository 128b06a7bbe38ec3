import asyncio

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket


async def never_answers(ws: WebSocket):
    await ws.accept()
    await ws.receive_text()
    await asyncio.sleep(3600)


async def returns(ws: WebSocket):
    await ws.accept()
    await ws.receive_text()


async def raises_late(ws: WebSocket):
    await ws.accept()
    async for message in ws.iter_text():
        await ws.send_text(message)
    await asyncio.sleep(0.01)
    raise RuntimeError('could not save')


async def beat():
    while True:
        await asyncio.sleep(3600)


async def leaks_task(ws: WebSocket):
    await ws.accept()
    asyncio.ensure_future(beat())
    async for message in ws.iter_text():
        await ws.send_text(message)


routes = [
    WebSocketRoute('/never-answers', never_answers),
    WebSocketRoute('/returns', returns),
    WebSocketRoute('/raises-late', raises_late),
    WebSocketRoute('/leaks-task', leaks_task),
]
client = TestClient(Starlette(routes=routes))


def echo(url):
    with client.websocket_connect(url) as ws:
        ws.send_text('hello')
        assert ws.receive_text() == 'hello'


def test_never_answers():
    echo('/never-answers')


def test_returns():
    echo('/returns')


def test_raises_late():
    echo('/raises-late')


def test_leaks_task():
    echo('/leaks-task')
