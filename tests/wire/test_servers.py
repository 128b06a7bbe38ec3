"""The same application on every ASGI server there is for Python, each in a process of its own."""

import asyncio
import contextlib
import sys

import pytest
import requests
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.servers import free_port, process

THIS = 'tests.apps.everywhere:app'
UVICORN = ['-m', 'uvicorn', '--port', '{port}', '--lifespan', 'on']
# hypercorn has to be told that it is an ASGI application where Python cannot mark a function as a coroutine function.
HYPERCORN_APP = THIS if sys.version_info >= (3, 12) else 'asgi:' + THIS
SERVERS = {
    'uvicorn websockets': [*UVICORN, '--ws', 'websockets', THIS],
    'uvicorn websockets-sansio': [*UVICORN, '--ws', 'websockets-sansio', THIS],
    'uvicorn wsproto': [*UVICORN, '--ws', 'wsproto', THIS],
    'uvicorn auto': [*UVICORN, THIS],
    'uvicorn workers': [*UVICORN, '--workers', '2', THIS],
    'hypercorn': ['-m', 'hypercorn', '--bind', '127.0.0.1:{port}', HYPERCORN_APP],
    'daphne': ['-m', 'daphne', '-p', '{port}', THIS],
    'granian': ['-m', 'granian', '--interface', 'asgi', '--port', '{port}', THIS],
}


#: How a server is told of a prefix; a proxy has taken it off the path.
ROOTED = {
    'uvicorn auto': ['--root-path', '/api/'],
    'hypercorn': ['--root-path', '/api/'],
    'daphne': ['--root-path', '/api/'],
    'granian': ['--url-path-prefix', '/api/'],
}


@contextlib.contextmanager
def serving(server, *options):
    port = free_port()
    command = [part.format(port=port) for part in SERVERS[server]]
    with process([*command[:-1], *options, command[-1]], port):
        yield port


@pytest.fixture(params=SERVERS, scope='module')
def port(request):
    with serving(request.param) as port:
        yield port


@pytest.mark.parametrize('server', ROOTED)
async def test_prefix_is_known_to_client_only(server):
    """Only the client knows the prefix."""
    with serving(server, *ROOTED[server]) as port:
        url = 'http://127.0.0.1:%d/' % port
        assert (await asyncio.to_thread(requests.get, url, timeout=10)).text == 'page at /'
        async with connecting(port, '/where') as ws:
            assert await asyncio.wait_for(ws.recv(), 10) == '/where, /api/where'


@pytest.fixture
def is_daphne(request):
    return 'daphne' in request.node.name


def connecting(port, path, **options):
    return connect('ws://127.0.0.1:%d%s' % (port, path), open_timeout=10, close_timeout=5, proxy=None, **options)


def test_plain_http_is_served(port):
    response = requests.get('http://127.0.0.1:%d/' % port, timeout=10)
    assert (response.status_code, response.text) == (200, 'page at /')
    assert requests.get('http://127.0.0.1:%d/chat/a' % port, timeout=10).status_code == 426
    assert requests.get('http://127.0.0.1:%d/schema/' % port, timeout=10).status_code == 200


async def test_messages_go_both_ways(port, is_daphne):
    """Text and bytes go both ways, and the connection ends with 1000."""
    conversation = [('hello', 'a: hello'), ('é', 'a: é'), ('', 'a: '), (b'\xff', b'\xff')]
    async with connecting(port, '/chat/a') as ws:
        # daphne drops an empty message that the application sends.
        for message, answer in conversation if is_daphne else [*conversation, (b'', b'')]:
            await ws.send(message)
            assert await asyncio.wait_for(ws.recv(), 10) == answer
        await ws.send('leave')
        with pytest.raises(ConnectionClosed) as info:
            await asyncio.wait_for(ws.recv(), 10)
    assert info.value.rcvd.code == 1000


async def test_failing_handler_closes_with_1011(port, is_daphne):
    """A failing handler is closed with 1011."""
    async with connecting(port, '/fails') as ws:
        with pytest.raises(ConnectionClosed) as info:
            await asyncio.wait_for(ws.recv(), 10)
    # daphne drops the reason of a close, and sends no code of the protocol but 1000.
    assert (info.value.rcvd.code, info.value.rcvd.reason) == ((4011, '') if is_daphne else (1011, 'Internal error'))


@pytest.mark.parametrize('path, origin, status', [('/nope', None, 404), ('/chat/a', 'http://evil.example', 403)])
async def test_a_refused_handshake_is_denied(port, is_daphne, path, origin, status):
    with pytest.raises(InvalidStatus) as info:
        async with connecting(port, path, origin=origin):
            """Not get here."""
    # daphne has no denial extension: a refusal is 403, whatever its reason.
    assert info.value.response.status_code == (403 if is_daphne else status)
