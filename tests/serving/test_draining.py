"""Sending the clients away: who is refused, who is closed when, and what is waited for."""

import asyncio
import contextlib
import signal
import time

import pytest
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from tests.clock import virtual
from tests.conversations import ACCEPT, CONNECT, Peer, closed, run, scope
from tests.servers import free_port, process

AWAY = closed(1012, 'The server restarts')


def now():
    return asyncio.get_running_loop().time()


class TimedPeer(Peer):
    closed_at = None

    async def send(self, message):
        if message['type'] == 'websocket.close':
            self.closed_at = now()
        await super().send(message)


@websocket_route('/stay')
async def stay(ws: WebSocket):
    async for _ in ws:
        """Go on until it ends."""


@websocket_route('/late', connect=False)
async def late(ws: WebSocket):
    await asyncio.sleep(1)
    await ws.connect()


@websocket_route('/linger')
async def linger(ws: WebSocket):
    begun = now()
    while now() < begun + 100:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)


class Slow:
    async def on_request(self):
        await asyncio.sleep(1)


class Fellowship:
    """Connections that are open at once."""

    def __init__(self, app, url, count=1):
        self.app = app
        self.begun = now()
        self.peers = [TimedPeer(CONNECT) for _ in range(count)]
        self.tasks = [asyncio.ensure_future(run(app, scope(url), peer, 1000)) for peer in self.peers]

    async def opened(self):
        while not all(peer.sent for peer in self.peers):
            await asyncio.sleep(0.01)
        self.begun = now()

    def times(self):
        return [peer.closed_at - self.begun for peer in self.peers]


def made(**options):
    return ASyncApp(collect_routes(stay, late, linger), **options)


class TestDrain:
    @virtual
    async def test_closes_are_spread_evenly(self):
        """Closes are spread evenly, and drain returns when no connection is left."""
        fellowship = Fellowship(made(), '/stay', 11)
        await fellowship.opened()
        await fellowship.app.drain(10)
        assert sorted(round(at) for at in fellowship.times()) == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]
        assert now() - fellowship.begun < 10
        assert [peer.sent for peer in fellowship.peers] == [[ACCEPT, AWAY]] * 11

    @virtual
    async def test_zero_seconds_close_at_once(self):
        """With zero seconds, all connections are closed at once."""
        fellowship = Fellowship(made(), '/stay', 250)
        await fellowship.opened()
        await fellowship.app.drain(0)
        assert max(fellowship.times()) < 0.1
        await made().drain(0)

    @virtual
    async def test_second_call_waits_for_first(self):
        """A second call waits for the first one."""
        fellowship = Fellowship(made(), '/stay', 2)
        await fellowship.opened()
        first = asyncio.ensure_future(fellowship.app.drain(10))
        await asyncio.sleep(1)
        await fellowship.app.drain(0)
        assert first.done()
        assert sorted(round(at) for at in fellowship.times()) == [0, 5]

    @virtual
    async def test_from_now_on_handshakes_are_denied(self):
        app = made(event_hooks=[Slow])
        await app.drain(0)
        begun = now()
        sent = await run(app, scope('/stay'), Peer(CONNECT))
        assert (sent[0]['status'], dict(sent[0]['headers'])[b'retry-after']) == (503, b'5')
        assert sent[1]['body'] == b'"The server restarts"'
        assert now() == begun

    @pytest.mark.parametrize('url, hooks', [('/stay', [Slow]), ('/late', None)])
    @virtual
    async def test_pending_handshake_is_denied(self, url, hooks):
        """A pending handshake is denied before its accept."""
        fellowship = Fellowship(made(event_hooks=hooks), url)
        await asyncio.sleep(0.5)
        await fellowship.app.drain(0)
        assert [peer.sent[0]['status'] for peer in fellowship.peers] == [503]

    @virtual
    async def test_handshake_is_denied_at_any_moment(self):
        """A handshake is denied or closed at whatever moment the drain begins."""
        for turns in range(30):
            fellowship = Fellowship(made(event_hooks=[Slow]), '/stay')
            await asyncio.sleep(1)
            for _ in range(turns):
                await asyncio.sleep(0)
            await fellowship.app.drain(0)
            await asyncio.gather(*fellowship.tasks)
            sent = fellowship.peers[0].sent
            assert sent == [ACCEPT, AWAY] or sent[0]['status'] == 503

    @virtual
    async def test_lingering_handler_is_not_awaited(self, caplog):
        """A handler that goes on is not awaited forever, and is logged."""
        fellowship = Fellowship(made(), '/linger', 2)
        await fellowship.opened()
        await fellowship.app.drain(1)
        assert 5 <= now() - fellowship.begun <= 7
        assert [record.getMessage() for record in caplog.records if 'drain' in record.getMessage()] == [
            '2 handlers go on 5 seconds after the drain, the one of <WebSocket /linger disconnected> among them.'
        ]
        await asyncio.gather(*fellowship.tasks)

    @pytest.mark.parametrize('seconds', [-1, float('nan'), float('inf')])
    async def test_less_than_no_time_is_refused(self, seconds):
        with pytest.raises(ValueError, match=r'drain\(.*\): give the seconds'):
            await made().drain(seconds)


async def close_of(client):
    """Return when the server closes, and with which code."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), 20)
    return time.monotonic(), client.close_code


async def test_example_drains_before_the_shutdown():
    """The example drains before the server shuts down."""
    port = free_port()
    url = 'ws://127.0.0.1:%d/ticks' % port
    command = ['-m', 'uvicorn', '--app-dir', 'docs/examples', 'draining:app', '--log-level', 'error']
    with process([*command, '--port', str(port)], port) as server:
        clients = [await websockets_connect(url, proxy=None) for _ in range(20)]
        begun = time.monotonic()
        stopping = asyncio.ensure_future(asyncio.to_thread(server.stop))
        closes = asyncio.gather(*[close_of(client) for client in clients])
        with pytest.raises(InvalidStatus) as info:
            while True:
                async with websockets_connect(url, proxy=None):
                    """Be too early to be denied."""
        assert (info.value.response.status_code, info.value.response.headers['retry-after']) == (503, '5')
        ends = await closes
        assert {code for _, code in ends} == {1012}
        assert max(at for at, _ in ends) - min(at for at, _ in ends) > 1
        await stopping
    # uvicorn ends by the signal that it was told to end by.
    assert (server.popen.returncode, time.monotonic() - begun < 15) == (-signal.SIGTERM, True)
