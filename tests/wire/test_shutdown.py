"""What becomes of open connections, and of handlers that linger, when the server is told to stop."""

import asyncio
import contextlib

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.servers import IMPLEMENTATIONS, free_port, process
from tests.sizes import size, soak

CROWD = size(300, 1000)
WHAT = ['sleep', 'receive', 'send']
#: Seconds within which the server has to end, and some for the machine.
BOUND = 2.0
NOISE = 3.0


async def join(port, what, gate):
    """Return a client that the handler has greeted."""
    async with gate:
        client = await connect('ws://127.0.0.1:%d/%s' % (port, what), proxy=None, compression=None, open_timeout=60)
        assert await asyncio.wait_for(client.recv(), 60) == 'ready'
    return client


async def close_code_of(client):
    """Return the code with which the server closes."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), 20)
    return client.close_code


@soak
@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
async def test_shutdown_notifies_all_clients(implementation):
    """All clients are notified, all handlers end, and so does the server."""
    port = free_port()
    command = ['-m', 'uvicorn', 'tests.apps.crowd:app', '--ws', implementation, '--log-level', 'error']
    with process([*command, '--port', str(port)], port) as server:
        gate = asyncio.Semaphore(50)
        clients = await asyncio.gather(*[join(port, WHAT[i % len(WHAT)], gate) for i in range(CROWD)])
        closes = asyncio.gather(*[close_code_of(client) for client in clients])
        printed = await asyncio.to_thread(server.stop)
        assert set(await closes) <= {1001, 1012}
    assert printed.split() == ['ended'] * CROWD


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('what', ['told', 'closed', 'opted-out', 'swallows', 'backlog'])
async def test_lingering_handlers_block_no_shutdown(implementation, what, tmp_path):
    """No handler keeps the server from ending."""
    port = free_port()
    command = ['-m', 'uvicorn', 'tests.apps.lingering:app', '--ws', implementation, '--log-level', 'error']
    with process([*command, '--port', str(port)], port) as server:
        client = await connect('ws://127.0.0.1:%d/%s' % (port, what), proxy=None, compression=None)
        if what == 'backlog':
            for _ in range(10):
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(client.send('x' * 60_000), 0.2)
        elif what != 'opted-out':
            await asyncio.wait_for(client.close(), 10)
        if what != 'swallows':
            assert await asyncio.to_thread(server.popen.stdout.readline) == 'lingers\n'
        printed = await asyncio.wait_for(asyncio.to_thread(server.stop), BOUND + NOISE)
        client.transport.abort()
    assert printed.split()[-1] == 'ended'
