import ast
import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time

import pytest
from apistar import App, Route, exceptions, http

from apistar_ws import ASyncApp, WebSocket, WebSocketDisconnect, collect_routes, websocket_route
from apistar_ws.testing import (
    ConnectionClosed,
    HandshakeDenied,
    TasksLeft,
    TestClient,
    WaitTimeout,
    connect,
)
from apistar_ws.testing.scope import handshake_scope
from apistar_ws.testing.tasks import describe_task
from tests.servers import ROOT


@websocket_route('/echo/{room}', subprotocols=['b'])
async def echo(room: str, ws: WebSocket, x: int = 0):
    async for message in ws:
        await ws.send('%s %d %s' % (room, x, message) if isinstance(message, str) else message)


@websocket_route('/token')
async def show_token(ws: WebSocket, token: str = '', x: int = 0):
    await ws.send_json([token, x])


@websocket_route('/misbehave/{how}')
async def misbehave(how: str, ws: WebSocket):
    message = await ws.receive()
    if how == 'sleep':
        await asyncio.sleep(3600)
    if how == 'raise':
        raise RuntimeError('raised late, on %s' % message)
    if how == 'leak':
        asyncio.ensure_future(forever())
        await ws.send('leaked')
    if how == 'close':
        await ws.close(4001, 'bye')
    if how == 'stubborn':
        while 'left' not in seen:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                """Go on all the same."""
    if how == 'block':
        released.wait(20)
    if how == 'catch':
        with contextlib.suppress(BaseException):
            released.wait(20)
        await ws.send('went on')
    if how == 'exit':
        sys.exit(3)


@websocket_route('/thread')
async def which_thread(ws: WebSocket):
    await ws.send_json(threading.get_ident())


def show_thread() -> int:
    return threading.get_ident()


#: What the page below calls.
calls = []


def nested():
    calls.pop()()


async def forever():
    await asyncio.sleep(3600)


seen = []
released = threading.Event()


@websocket_route('/late/{how}')
async def late(how: str, ws: WebSocket):
    try:
        await ws.receive()
    except WebSocketDisconnect as exc:
        seen.append((exc.code, exc.reason))
        if how == 'send':
            await ws.send('too late')
        raise RuntimeError('in the clean-up')


@websocket_route('/guarded', connect=False)
async def guarded(headers: http.Headers, ws: WebSocket):
    if 'x-token' not in headers:
        raise exceptions.Forbidden({'token': 'missing'})
    await ws.connect(headers={'Set-Cookie': 'seen=1; Path=/', 'X-Hello': 'hi'})
    await ws.send_json([headers['x-token'], dict(ws.cookies)])


@websocket_route('/plain-close', connect=False)
async def plain_close(ws: WebSocket):
    await ws.close()


def show_cookies(headers: http.Headers):
    return http.JSONResponse(headers.get('cookie', ''), headers={'Set-Cookie': 'http=1; Path=/'})


async def slow_page():
    await asyncio.sleep(3600)


def failing_page():
    raise RuntimeError('on a page')


APP = ASyncApp(
    [
        Route('/cookies', 'GET', show_cookies),
        Route('/slow', 'GET', slow_page),
        Route('/failing', 'GET', failing_page),
        Route('/thread', 'GET', show_thread),
        Route('/nested', 'GET', nested),
    ]
    + collect_routes(echo, show_token, misbehave, late, guarded, plain_close, which_thread)
)


@pytest.fixture
def client():
    seen.clear()
    released.clear()
    client = TestClient(APP, timeout=5.0)
    yield client
    released.set()
    client.close()


class TestBlocking:
    def test_messages_go_both_ways_in_the_full_lifecycle(self, client):
        with client.websocket_connect('/echo/a?x=5', subprotocols=['a', 'b'], headers={'X-A': 'b'}) as ws:
            assert ws.subprotocol == 'b'
            ws.send('hello')
            assert ws.receive() == 'a 5 hello'
            ws.send(b'bytes')
            assert ws.receive() == b'bytes'
            ws.send_json({'a': 1})
            assert ws.receive() == 'a 5 {"a": 1}'

    def test_two_connections_of_one_client_share_an_event_loop(self, client):
        with client.websocket_connect('/echo/a') as one, client.websocket_connect('/echo/b') as two:
            two.send('x')
            one.send('y')
            assert (one.receive(), two.receive()) == ('a 0 y', 'b 0 x')

    def test_a_denial_has_status_headers_and_json(self, client):
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/guarded'):
                """Not get here."""
        assert (info.value.status, info.value.json()) == (403, {'token': 'missing'})
        assert info.value.headers['content-type'] == 'application/json'
        assert str(info.value) == 'The handshake was denied with 403: {"token":"missing"}'

    def test_a_close_before_the_accept_is_a_denial_403(self, client):
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/plain-close'):
                """Not get here."""
        assert (info.value.status, info.value.body) == (403, b'')

    def test_a_close_has_code_and_reason_every_time_it_is_met(self, client):
        with client.websocket_connect('/misbehave/close') as ws:
            ws.send('x')
            for _ in range(2):
                with pytest.raises(ConnectionClosed) as info:
                    ws.receive()
                assert (info.value.code, info.value.reason) == (4001, 'bye')
            assert list(ws) == []

    def test_the_end_of_the_handler_ends_an_iteration(self, client):
        with client.websocket_connect('/guarded', headers={'X-Token': 't'}) as ws:
            assert list(ws) == ['["t",{}]']

    def test_cookies_and_headers_are_those_of_the_client(self, client):
        client.headers['X-Token'] = 'of the client'
        client.get('/cookies')
        with client.websocket_connect('/guarded') as ws:
            assert ws.headers['x-hello'] == 'hi'
            assert ws.receive_json() == ['of the client', {'http': '1'}]
        assert sorted(client.get('/cookies').json().split('; ')) == ['http=1', 'seen=1']
        with client.websocket_connect('ws://testserver/guarded') as ws:
            assert ws.receive_json()[1] == {'http': '1', 'seen': '1'}

    def test_a_wait_that_takes_too_long_says_what_for_and_where_the_handler_was(self, client):
        with pytest.raises(WaitTimeout) as info:
            with client.websocket_connect('/misbehave/sleep', timeout=0.05) as ws:
                ws.send('x')
                ws.receive()
        assert str(info.value).startswith('Waited 0.05 seconds for a message of /misbehave/sleep.\n')
        assert 'The handler was in misbehave, ' in str(info.value)
        assert str(info.value).endswith(': await asyncio.sleep(3600)')

    def test_what_the_handler_raises_is_raised_in_the_test(self, client):
        with pytest.raises(RuntimeError, match='raised late, on x') as info:
            with client.websocket_connect('/misbehave/raise') as ws:
                ws.send('x')
                ws.receive()
        assert 'misbehave' in [entry.name for entry in info.traceback]

    def test_what_was_expected_of_the_handler_is_not_raised_again(self, client):
        with client.websocket_connect('/misbehave/raise') as ws:
            ws.send('x')
            with pytest.raises(RuntimeError, match='raised late'):
                ws.receive()

    def test_a_connection_that_is_closed_takes_no_more(self, client):
        with client.websocket_connect('/misbehave/close') as ws:
            ws.send('x')
            for call in (ws.receive, lambda: ws.send('y')):
                with pytest.raises(ConnectionClosed):
                    call()

    def test_an_application_for_wsgi_is_tested_as_by_api_star(self):
        client = TestClient(App([Route('/cookies', 'GET', show_cookies)]))
        assert client.get('/cookies').status_code == 200
        client.close()

    def test_what_the_handler_raises_while_it_is_left_is_raised_too(self, client):
        with pytest.raises(RuntimeError, match='in the clean-up'):
            with client.websocket_connect('/late/raise') as ws:
                ws.close(4005, 'enough')
        assert seen == [(4005, 'enough')]

    def test_a_handler_that_sends_to_a_client_that_left_sees_the_disconnect(self, client):
        with client.websocket_connect('/late/send'):
            """Leave at once."""
        assert seen == [(1000, '')]

    def test_tasks_left_running_fail_the_test(self, client):
        with pytest.raises(TasksLeft, match=r'The handler left 1 task\(s\) running:\nA task was in forever, .*: await'):
            with client.websocket_connect('/misbehave/leak') as ws:
                ws.send('x')
                assert ws.receive() == 'leaked'

    def test_a_handler_that_does_not_end_fails_the_test(self, client):
        with pytest.raises(WaitTimeout, match='Waited 0.05 seconds for the handler to end of /misbehave/stubborn'):
            with client.websocket_connect('/misbehave/stubborn', timeout=0.05) as ws:
                ws.send('x')
        seen.append('left')

    def test_a_handler_that_blocks_the_event_loop_fails_the_test(self, client, monkeypatch):
        monkeypatch.setattr('apistar_ws.testing.client.TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave, .*: released.wait'):
            with client.websocket_connect('/misbehave/block', timeout=0.05) as ws:
                ws.send('x')

    def test_an_error_of_the_test_itself_ends_the_handler(self, client):
        with pytest.raises(ZeroDivisionError):
            with client.websocket_connect('/misbehave/sleep') as ws:
                ws.send('x')
                1 / 0


async def show_handshake(scope, receive, send):
    """Deny a handshake with its headers, as the application got them."""
    await receive()
    body = repr(sorted(scope['headers'])).encode()
    await send({'type': 'websocket.http.response.start', 'status': 403})
    await send({'type': 'websocket.http.response.body', 'body': body})


class TestBytesHeaders:
    """Headers that are given in bytes, which not every text can stand for."""

    HEADERS = {b'X-Latin': b'Jos\xe9', b'X-\xff': b'name', 'X-Text': 'Jos\xe9'}
    EXPECTED = [(b'x-latin', b'Jos\xe9'), (b'x-text', b'Jos\xc3\xa9'), (b'x-\xff', b'name')]

    def test_handshake_headers_keep_their_bytes(self):
        """The client sends names and values in bytes unchanged."""
        client = TestClient(show_handshake)
        client.headers['X-Session'] = b'\xe9'
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/', headers=self.HEADERS):
                """Not get here."""
        received = ast.literal_eval(info.value.body.decode())
        assert [pair for pair in received if pair in self.EXPECTED] == self.EXPECTED
        assert (b'x-session', b'\xe9') in received

    async def test_async_handshakes_keep_their_bytes(self):
        """So does the client of tests that are async; a name in bytes replaces a default."""
        with pytest.raises(HandshakeDenied) as info:
            async with connect(show_handshake, '/', headers={**self.HEADERS, b'Host': b'other'}):
                """Not get here."""
        received = ast.literal_eval(info.value.body.decode())
        assert [pair for pair in received if pair in self.EXPECTED] == self.EXPECTED
        assert [value for name, value in received if name == b'host'] == [b'other']

    def test_requests_keep_their_bytes(self, client):
        """A plain HTTP request takes values in bytes too."""
        assert client.get('/cookies', headers={b'Cookie': b'a=Jos\xe9'}).json() == 'a=Jos\xe9'


class TestMistakes:
    """Mistaken calls of the client, each with a sentence that names what to write."""

    @pytest.mark.parametrize('use', [lambda ws: ws.receive(), list])
    def test_connection_needs_a_with_block(self, client, use):
        """Without ``with`` the error says how to open the connection."""
        with pytest.raises((AttributeError, TypeError), match=r'use with client\.websocket_connect\(\.\.\.\) as ws\.'):
            use(client.websocket_connect('/echo/a'))

    async def test_async_connection_needs_a_with_block(self):
        """Neither ``await`` nor a method opens a connection of ``connect``."""
        with pytest.raises(TypeError, match=r'There is no connection yet: use async with connect\(\.\.\.\) as ws\.'):
            await connect(APP, '/echo/a')
        with pytest.raises(AttributeError, match=r'There is no send yet: use async with connect'):
            await connect(APP, '/echo/a').send('x')

    def test_connection_never_opened_warns(self, client):
        """A call alone would pass every test."""
        with pytest.warns(RuntimeWarning, match=r'No connection was opened: use with client\.websocket_connect'):
            client.websocket_connect('/echo/a')
            gc.collect()

    async def test_misspelt_query_parameter_warns(self, client):
        """The warning names what the handler declares, at the line of the test."""
        with pytest.warns(
            UserWarning, match="declares no query parameter 'tokn': did you mean 'token'.*: token, x"
        ) as said:
            with client.websocket_connect('/token?tokn=') as ws:
                assert ws.receive_json() == ['', 0]
            async with connect(APP, '/token?tokn=5') as ws:
                assert await ws.receive_json() == ['', 0]
        assert [warning.filename for warning in said] == [__file__] * 2

    def test_other_query_parameters_do_not_warn(self, client):
        """What is declared, or like nothing that is missing, may be meant."""
        for query in ('token=a&x=5', 'token=a&tokn=5', 'unlike=5'):
            with client.websocket_connect('/token?' + query):
                """Leave at once."""
        with pytest.raises(HandshakeDenied):
            with client.websocket_connect('/nowhere?tokn=5'):
                """Not get here."""


class TestStoppedClock:
    """A test with freezegun, which replaces the clocks of Python by functions that stand still."""

    STOPPED = r'(?s)%s.*The clock is patched, as by freezegun'

    @pytest.fixture(autouse=True)
    def stop_clocks(self, monkeypatch):
        for name in ('time', 'monotonic'):
            monkeypatch.setattr(time, name, lambda: 1000.0)

    def test_messages_go_both_ways(self, client):
        """Nothing changes where nothing waits for the clock."""
        with client, client.websocket_connect('/echo/a') as ws:
            ws.send('x')
            assert ws.receive() == 'a 0 x'

    def test_waits_end_in_time(self, client):
        """The error names the handler and the clock, and does not blame the event loop."""
        with pytest.raises(WaitTimeout, match=self.STOPPED % 'for a message of .*The handler was in misbehave'):
            with client.websocket_connect('/misbehave/sleep', timeout=0.05) as ws:
                ws.send('x')
                ws.receive()

    async def test_async_waits_end_in_time(self):
        """So it is in the event loop of the test."""
        with pytest.raises(WaitTimeout, match=self.STOPPED % 'for a message of .*The handler was in misbehave'):
            async with connect(APP, '/misbehave/sleep', timeout=0.05) as ws:
                await ws.send('x')
                await ws.receive()

    def test_requests_end_in_time(self, client, monkeypatch):
        """A plain HTTP request that takes too long ends too."""
        monkeypatch.setattr('apistar_ws.testing.client.HTTP_TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match=self.STOPPED % 'for GET /slow'):
            client.get('/slow')


class TestHTTP:
    def test_what_a_page_raises_is_raised_in_the_test_as_by_api_stars_client(self, client):
        with pytest.raises(RuntimeError, match='on a page'):
            client.get('/failing')

    def test_a_page_that_takes_too_long_fails_the_test(self, client, monkeypatch):
        monkeypatch.setattr('apistar_ws.testing.client.HTTP_TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='Waited 0.05 seconds for GET /slow'):
            client.get('/slow')

    async def test_it_can_be_called_where_an_event_loop_runs(self, client):
        assert client.get('/cookies').status_code == 200

    async def test_it_can_be_called_where_an_event_loop_has_come_meanwhile(self, client):
        with client.websocket_connect('/echo/a') as ws:
            ws.send('x')
            assert ws.receive() == 'a 0 x'

    def test_the_event_loop_ends_with_the_client(self):
        client = TestClient(APP)
        loop = client._portal.loop
        assert client.get('/cookies').status_code == 200
        loop.create_task(forever())
        client.close()
        client.close()
        assert loop.is_closed()
        client = TestClient(APP)
        loop = client._portal.loop
        del client
        gc.collect()
        assert loop.is_closed()


class TestThread:
    """Where the application runs, and what ends it when it blocks."""

    def test_the_application_runs_in_the_thread_of_the_test(self, client):
        assert client.get('/thread').json() == threading.get_ident()
        with client.websocket_connect('/thread') as ws:
            assert ws.receive_json() == threading.get_ident()

    async def test_it_runs_in_another_one_where_an_event_loop_runs(self, client):
        with client.websocket_connect('/thread') as ws:
            assert ws.receive_json() != threading.get_ident()

    async def test_a_handler_that_blocks_another_thread_fails_the_test_too(self, client, monkeypatch):
        monkeypatch.setattr('apistar_ws.testing.client.TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave, .*: released.wait'):
            with client.websocket_connect('/misbehave/block', timeout=0.05) as ws:
                ws.send('x')
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave'):
            client.get('/cookies')
        client.close()

    def test_a_handler_that_catches_the_interruption_fails_the_test_all_the_same(self, client, monkeypatch):
        monkeypatch.setattr('apistar_ws.testing.client.TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave, .*: released.wait'):
            with client.websocket_connect('/misbehave/catch', timeout=0.05) as ws:
                ws.send('x')

    def test_a_handler_that_catches_every_interruption_ends_the_process(self):
        program = """
import time
import apistar_ws.testing.client
from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
@websocket_route('/')
async def stubborn(ws: WebSocket):
    while True:
        try:
            time.sleep(30)
        except BaseException:
            pass
apistar_ws.testing.client.TIMEOUT = 0.05
with apistar_ws.testing.TestClient(ASyncApp(collect_routes(stubborn)), timeout=0.05).websocket_connect('/') as ws:
    ws.receive()
"""
        ended = subprocess.run(
            [sys.executable, '-W', 'ignore', '-c', program], capture_output=True, timeout=20, cwd=ROOT
        )
        assert ended.returncode == 1
        assert ended.stderr.startswith(
            b'The test cannot continue: its code blocks, and catches every interruption, in '
        )

    def test_a_client_that_is_called_by_its_own_handler_says_so(self, client):
        calls.append(lambda: client.get('/cookies'))
        with pytest.raises(RuntimeError, match='called inside of a handler that it runs: make another TestClient'):
            client.get('/nested')

    async def test_a_client_that_is_called_by_its_own_handler_in_another_thread_says_so(self, client):
        calls.append(lambda: client.get('/cookies'))
        with pytest.raises(RuntimeError, match='called inside of a handler that it runs'):
            client.get('/nested')

    def test_the_time_that_a_call_takes_counts_for_the_users_own_timer(self, client):
        rung = threading.Event()
        before = signal.signal(signal.SIGALRM, lambda *args: rung.set())
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(WaitTimeout):
            with client.websocket_connect('/misbehave/sleep', timeout=0.05) as ws:
                ws.send('x')
                ws.receive()
        assert rung.wait(5)
        signal.signal(signal.SIGALRM, before)

    def test_a_timer_of_the_users_own_goes_on(self, client):
        rung = []
        before = signal.signal(signal.SIGALRM, lambda *args: rung.append(True))
        signal.setitimer(signal.ITIMER_REAL, 1000)
        with client.websocket_connect('/echo/a') as ws:
            ws.send('x')
            assert ws.receive() == 'a 0 x'
        assert 0 < signal.setitimer(signal.ITIMER_REAL, 0)[0] <= 1000
        assert signal.signal(signal.SIGALRM, before) != before

    def test_a_handler_that_exits_is_seen_at_once(self, client):
        with pytest.raises(SystemExit):
            with client.websocket_connect('/misbehave/exit') as ws:
                ws.send('x')
                ws.receive()
        assert client.get('/cookies').status_code == 200

    async def test_a_handler_that_exits_is_seen_at_once_in_another_thread_too(self, client):
        with pytest.raises(SystemExit):
            with client.websocket_connect('/misbehave/exit') as ws:
                ws.send('x')
                ws.receive()


class TestFailures:
    def test_a_test_may_see_the_close_that_a_client_sees(self, client):
        with client.websocket_connect('/misbehave/raise', raises=False) as ws:
            ws.send('x')
            with pytest.raises(ConnectionClosed) as info:
                ws.receive()
        assert (info.value.code, info.value.reason) == (1011, 'Internal error')

    async def test_so_may_an_async_test(self):
        async with connect(APP, '/misbehave/raise', raises=False) as ws:
            await ws.send('x')
            with pytest.raises(ConnectionClosed) as info:
                await ws.receive()
        assert info.value.code == 1011


class TestOverlapping:
    async def test_connections_that_overlap_without_nesting_notice_what_is_left_running(self):
        loop = asyncio.get_running_loop()
        one, two = connect(APP, '/echo/a'), connect(APP, '/misbehave/leak')
        await one.__aenter__()
        leaking = await two.__aenter__()
        await one.__aexit__(None, None, None)
        await leaking.send('x')
        assert await leaking.receive() == 'leaked'
        with pytest.raises(TasksLeft):
            await two.__aexit__(None, None, None)
        assert loop.get_task_factory() is None

    async def test_a_task_factory_that_came_meanwhile_stays(self):
        loop = asyncio.get_running_loop()

        def factory(loop, coro, **options):
            """Stand for one that somebody else has set meanwhile."""

        async with connect(APP, '/echo/a'):
            loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        loop.set_task_factory(None)


class TestAsync:
    async def test_messages_go_both_ways(self):
        async with connect(APP, '/echo/a?x=5', subprotocols=['b'], headers={'X-A': 'b'}) as ws:
            await ws.send('hello')
            assert await ws.receive() == 'a 5 hello'
            assert ws.subprotocol == 'b'

    async def test_iteration_ends_with_the_connection(self):
        async with connect(APP, '/guarded', headers={'X-Token': 't'}) as ws:
            assert [message async for message in ws] == ['["t",{}]']

    async def test_a_task_factory_of_the_users_own_comes_back(self):
        loop = asyncio.get_running_loop()

        made = []

        def factory(loop, coro, **options):
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **options)

        loop.set_task_factory(factory)
        async with connect(APP, '/echo/a'):
            assert loop.get_task_factory() is not factory
        assert made
        assert loop.get_task_factory() is factory
        loop.set_task_factory(None)

    async def test_an_error_of_the_test_itself_ends_the_handler(self):
        with pytest.raises(ZeroDivisionError):
            async with connect(APP, '/misbehave/sleep') as ws:
                await ws.send('x')
                1 / 0

    async def test_an_application_that_returns_without_a_word_is_told_apart(self):
        async def silent(scope, receive, send):
            """Do nothing."""

        with pytest.raises(ConnectionClosed, match='the application returned'):
            async with connect(silent, '/'):
                """Not get here."""

    async def test_an_application_without_the_extension_body_still_denies(self):
        async def denying(scope, receive, send):
            await send({'type': 'websocket.http.response.start', 'status': 418})

        with pytest.raises(HandshakeDenied) as info:
            async with connect(denying, '/'):
                """Not get here."""
        assert (info.value.status, info.value.body) == (418, b'')


def test_a_whole_url_says_scheme_host_and_port():
    scope = handshake_scope('wss://example.com/a%20b?x=1', ['a'], [('Host', 'other'), ('X-A', 'b')])
    assert (scope['scheme'], scope['server'], scope['path']) == ('wss', ('example.com', 443), '/a b')
    headers = dict(scope['headers'])
    assert (headers[b'host'], headers[b'x-a'], headers[b'sec-websocket-protocol']) == (b'other', b'b', b'a')
    assert handshake_scope('https://example.com:8443/', [], [])['server'] == ('example.com', 8443)
    assert handshake_scope('/', [], [])['server'] == ('testserver', 80)


async def test_a_task_that_has_ended_is_said_to_have_ended():
    async def nothing():
        """End at once."""

    task = asyncio.ensure_future(nothing())
    await task
    assert describe_task(task, 'It') == 'It has ended.'


def test_a_client_sends_text_or_bytes_and_nothing_else(client):
    with client.websocket_connect('/echo/a') as ws:
        with pytest.raises(TypeError, match=r'text or bytes, not dict: send_json\(\) sends JSON'):
            ws.send({'a': 1})
