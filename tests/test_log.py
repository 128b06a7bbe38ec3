"""One line for each close and denial that the package decides, and not more than one a second of a kind."""

import asyncio
import functools
import gc
import logging
import sys

import pytest
from apistar import exceptions

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.log import RouteLog
from apistar_ws.origins import are_equal
from tests.clock import virtual
from tests.conversations import CONNECT, Peer, disconnect, run, scope, text


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.INFO, 'apistar_ws')


@pytest.fixture
def clock(monkeypatch):
    """A clock that shows what is put into it."""
    shown = [0.0]
    monkeypatch.setattr('apistar_ws.log.time.monotonic', lambda: shown[0])
    return shown


@websocket_route('/do/{what}', max_message_size=5, idle_timeout=10)
async def do(what: str, ws: WebSocket):
    if what == 'forbid':
        raise exceptions.Forbidden('Not\nyou')
    if what == 'json':
        await ws.receive_json()
    async for _ in ws:
        """Go on until the client has left, or has broken a limit."""


@websocket_route('/guarded')
async def guarded():
    """Not run."""


class Guard:
    def on_request(self, ws: WebSocket):
        if ws.scope['path'] == '/guarded':
            raise exceptions.Forbidden()


def lines(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


class TestRouteLog:
    def test_repeated_lines_are_counted(self, caplog, clock):
        """One line of a kind is written each second, and the others are counted."""
        log = RouteLog()
        for number in range(5):
            log.write(logging.INFO, 'denied %d', number)
        log.write(logging.WARNING, 'full')
        clock[0] = 1.0
        log.write(logging.INFO, 'denied %d', 6)
        clock[0] = 2.0
        log.write(logging.INFO, 'denied %d', 7)
        assert lines(caplog) == [
            ('INFO', 'denied 0'),
            ('WARNING', 'full'),
            ('INFO', 'denied 6 (4 more like it since the last one)'),
            ('INFO', 'denied 7'),
        ]

    def test_what_nobody_hears_costs_nothing(self, caplog):
        caplog.set_level(logging.WARNING, 'apistar_ws')
        log = RouteLog()
        log.write(logging.INFO, 'denied')
        caplog.set_level(logging.INFO, 'apistar_ws')
        log.write(logging.INFO, 'denied')
        assert lines(caplog) == [('INFO', 'denied')]


class TestConnections:
    def app(self, *hooks):
        return ASyncApp(collect_routes(do, guarded), event_hooks=list(hooks))

    @pytest.mark.parametrize(
        'url, script, line',
        [
            ('/do/forbid', [], 'closed with 4403, Not\\nyou.'),
            ('/do/json', [text('{')], 'closed with 1007, Malformed JSON.'),
            ('/do/x', [text('x' * 6)], 'closed with 1009, Message larger than 5 bytes.'),
            ('/guarded', [], 'denied with 403.'),
            ('/no\nwhere', [], 'denied with 404.'),
        ],
    )
    async def test_package_decisions_are_logged(self, url, script, line, caplog):
        """Each close and denial that the package decides has a line."""
        await run(self.app(Guard), scope('/', path=url), Peer(CONNECT, *script))
        name = 'WebSocket %s from testclient:50000: ' % url.replace('\n', '\\n')
        assert lines(caplog) == [('INFO', name + line)]

    async def test_what_others_decide_has_none(self, caplog):
        await run(self.app(), scope('/do/x'), Peer(CONNECT, disconnect()))
        assert lines(caplog) == []

    @virtual
    async def test_time_limits_are_logged(self, caplog):
        """A time limit has a line, too."""
        await run(self.app(), scope('/do/x', client=None), Peer(CONNECT), timeout=100)
        assert [line for _, line in lines(caplog)] == [
            'WebSocket /do/x from ?:?: closed with 1001, Nothing received for 10 seconds.'
        ]

    async def test_a_flood_is_two_lines(self, caplog, clock):
        app = self.app()
        for number in range(1000):
            await run(app, scope('/nowhere/%d' % number), Peer(CONNECT))
        clock[0] = 1.0
        await asyncio.gather(run(app, scope('/nowhere'), Peer(CONNECT)))
        assert [line.partition('denied')[2] for _, line in lines(caplog)] == [
            ' with 404.',
            ' with 404. (999 more like it since the last one)',
        ]

    async def test_flood_leaves_nothing_in_memory(self, caplog, monkeypatch):
        """A flood of bad handshakes leaves nothing in memory."""
        monkeypatch.setattr('apistar_ws.routing.router.CACHE_SIZE', 16)
        monkeypatch.setattr('apistar_ws.origins.are_equal', functools.lru_cache(maxsize=16)(are_equal.__wrapped__))
        app = self.app(Guard)

        async def flood(numbers):
            for number in numbers:
                origin = [(b'host', b'example.org'), (b'origin', b'https://%d.example.com' % number)]
                for options in [
                    {'path': '/nowhere/%d' % number},
                    {'path': '/guarded', 'query_string': b'n=%d' % number},
                    {'path': '/do/x', 'headers': origin},
                    {'path': '/do/x', 'query_string': b'\xff%d' % number},
                    {'path': '/do/%s%d' % ('x' * 300, number), 'query_string': b'\xff%d' % number},
                ]:
                    await run(app, {**scope('/'), **options}, Peer(CONNECT))

        # Until no more paths and origins are remembered.
        await flood(range(100))
        held = []
        for begin in range(100, 900, 200):
            await flood(range(begin, begin + 200))
            caplog.clear()
            gc.collect()
            held.append(sys.getallocatedblocks())
        # One text that is kept for each of a kind would be 200 a round. Another thread may be at work in one of them,
        # and coverage keeps things of its own.
        assert sys.gettrace() or min(after - before for before, after in zip(held, held[1:])) < 100
