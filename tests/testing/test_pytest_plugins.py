"""Async tests with each plug-in of pytest and on each event loop."""

import os
import subprocess
import sys

import pytest

from tests.needs import needs_uvloop

TESTS = """
import asyncio

import pytest

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.testing import TasksLeft, TestClient, connect


@websocket_route('/echo')
async def echo(ws: WebSocket):
    async for message in ws:
        await ws.send(message)


@websocket_route('/leaves')
async def leaves(ws: WebSocket):
    asyncio.get_running_loop().create_task(asyncio.sleep(60))


app = ASyncApp(collect_routes(echo, leaves))
%(backend)s

async def answer(ws, text):
    await ws.send(text)
    return await ws.receive()


%(mark)s
async def test_runs_on_the_chosen_loop():
    assert type(asyncio.get_running_loop()).__module__.partition('.')[0] == %(loop)r


%(mark)s
async def test_connections_may_be_nested():
    async with connect(app, '/echo') as outer:
        async with connect(app, '/echo') as inner:
            assert [await answer(inner, 'a'), await answer(outer, 'b')] == ['a', 'b']
        assert await answer(outer, 'c') == 'c'


%(mark)s
async def test_connections_may_overlap():
    first, second = connect(app, '/echo'), connect(app, '/echo')
    one = await first.__aenter__()
    two = await second.__aenter__()
    assert await answer(one, 'a') == 'a'
    await first.__aexit__(None, None, None)
    assert await answer(two, 'b') == 'b'
    await second.__aexit__(None, None, None)


%(mark)s
async def test_connections_work_in_tasks():
    async def one(text):
        async with connect(app, '/echo') as ws:
            return await answer(ws, text)

    assert await asyncio.gather(*[one(text) for text in 'abc']) == ['a', 'b', 'c']


%(mark)s
async def test_what_is_left_running_is_found():
    with pytest.raises(TasksLeft):
        async with connect(app, '/leaves', timeout=0.1):
            pass


%(mark)s
async def test_blocking_client_works_in_async_tests():
    with TestClient(app) as client, client.websocket_connect('/echo') as outer:
        with client.websocket_connect('/echo') as inner:
            inner.send('a')
            outer.send('b')
            assert (inner.receive(), outer.receive()) == ('a', 'b')
"""
BACKEND = """
@pytest.fixture
def anyio_backend():
    return %r
"""
ANYIO = {'mark': '@pytest.mark.anyio', 'options': ['-p', 'anyio']}
PLUGINS = {
    # As the recipe has it.
    'pytest-asyncio': {
        'mark': '',
        'backend': '',
        'loop': 'asyncio',
        'options': ['-p', 'pytest_asyncio.plugin', '-o', 'asyncio_mode=auto'],
    },
    'anyio': {**ANYIO, 'backend': BACKEND % 'asyncio', 'loop': 'asyncio'},
    'anyio-uvloop': {**ANYIO, 'backend': BACKEND % (('asyncio', {'use_uvloop': True}),), 'loop': 'uvloop'},
}


@pytest.mark.parametrize('name', ['pytest-asyncio', 'anyio', pytest.param('anyio-uvloop', marks=needs_uvloop)])
def test_async_tests_of_users_run(name, tmp_path):
    plugin = PLUGINS[name]
    (tmp_path / 'test_it.py').write_text(TESTS % plugin)
    command = [sys.executable, '-W', 'ignore', '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *plugin['options'], '.']
    # Only the plug-in that is meant: the others take longer to load than the tests to run.
    env = {**os.environ, 'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1'}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
    assert '6 passed' in done.stdout, done.stdout
