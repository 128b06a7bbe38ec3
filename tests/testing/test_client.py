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


class TestTestClient:
    def test_messages_go_both_ways(self, client):
        with client.websocket_connect('/echo/a?x=5', subprotocols=['a', 'b'], headers={'X-A': 'b'}) as ws:
            assert ws.subprotocol == 'b'
            ws.send('hello')
            assert ws.receive() == 'a 5 hello'
            ws.send(b'bytes')
            assert ws.receive() == b'bytes'
            ws.send_json({'a': 1})
            assert ws.receive() == 'a 5 {"a": 1}'

    def test_connections_share_an_event_loop(self, client):
        """Two connections of a client are open at the same time."""
        with client.websocket_connect('/echo/a') as one, client.websocket_connect('/echo/b') as two:
            two.send('x')
            one.send('y')
            assert (one.receive(), two.receive()) == ('a 0 y', 'b 0 x')

    def test_denials_have_status_and_body(self, client):
        """The error has status, headers and JSON."""
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/guarded'):
                """Not get here."""
        assert (info.value.status, info.value.json()) == (403, {'token': 'missing'})
        assert info.value.headers['content-type'] == 'application/json'
        assert str(info.value) == 'The handshake was denied with 403: {"token":"missing"}'

    def test_close_before_accept_is_403(self, client):
        """A close before the accept is a denial with 403."""
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/plain-close'):
                """Not get here."""
        assert (info.value.status, info.value.body) == (403, b'')

    def test_close_is_raised_each_time(self, client):
        """Each call after a close raises its code and reason."""
        with client.websocket_connect('/misbehave/close') as ws:
            ws.send('x')
            for _ in range(2):
                with pytest.raises(ConnectionClosed) as info:
                    ws.receive()
                assert (info.value.code, info.value.reason) == (4001, 'bye')
            assert list(ws) == []

    def test_iteration_ends_with_the_handler(self, client):
        """Iteration ends when the handler ends."""
        with client.websocket_connect('/guarded', headers={'X-Token': 't'}) as ws:
            assert list(ws) == ['["t",{}]']

    def test_client_headers_and_cookies_are_sent(self, client):
        """Handshakes have the cookies and headers of the client, and may set cookies."""
        client.headers['X-Token'] = 'of the client'
        client.get('/cookies')
        with client.websocket_connect('/guarded') as ws:
            assert ws.headers['x-hello'] == 'hi'
            assert ws.receive_json() == ['of the client', {'http': '1'}]
        assert sorted(client.get('/cookies').json().split('; ')) == ['http=1', 'seen=1']
        with client.websocket_connect('ws://testserver/guarded') as ws:
            assert ws.receive_json()[1] == {'http': '1', 'seen': '1'}

    def test_timeouts_name_the_handlers_line(self, client):
        """The error says what was awaited, and which line the handler was at."""
        with pytest.raises(WaitTimeout) as info:
            with client.websocket_connect('/misbehave/sleep', timeout=0.05) as ws:
                ws.send('x')
                ws.receive()
        assert str(info.value).startswith('Waited 0.05 seconds for a message of /misbehave/sleep.\n')
        assert 'The handler was in misbehave, ' in str(info.value)
        assert str(info.value).endswith(': await asyncio.sleep(3600)')

    def test_handler_exceptions_are_raised(self, client):
        """An exception of the handler is raised in the test, with its traceback."""
        with pytest.raises(RuntimeError, match='raised late, on x') as info:
            with client.websocket_connect('/misbehave/raise') as ws:
                ws.send('x')
                ws.receive()
        assert 'misbehave' in [entry.name for entry in info.traceback]

    def test_expected_exceptions_are_raised_once(self, client):
        """An exception that the test expected is not raised again at the end."""
        with client.websocket_connect('/misbehave/raise') as ws:
            ws.send('x')
            with pytest.raises(RuntimeError, match='raised late'):
                ws.receive()

    def test_closed_connections_raise(self, client):
        """Calls on a closed connection raise the close."""
        with client.websocket_connect('/misbehave/close') as ws:
            ws.send('x')
            for call in (ws.receive, lambda: ws.send('y')):
                with pytest.raises(ConnectionClosed):
                    call()

    def test_wsgi_applications_are_supported(self):
        """The client works as API Star's for a WSGI application."""
        client = TestClient(App([Route('/cookies', 'GET', show_cookies)]))
        assert client.get('/cookies').status_code == 200
        client.close()

    def test_cleanup_exceptions_are_raised(self, client):
        """An exception after the client has left is raised in the test."""
        with pytest.raises(RuntimeError, match='in the clean-up'):
            with client.websocket_connect('/late/raise') as ws:
                ws.close(4005, 'enough')
        assert seen == [(4005, 'enough')]

    def test_sends_after_disconnect_fail(self, client):
        """A handler that sends to a client that has left gets the disconnect."""
        with client.websocket_connect('/late/send'):
            """Leave at once."""
        assert seen == [(1000, '')]

    def test_leaked_tasks_fail_the_test(self, client):
        """The error names the task and its line."""
        with pytest.raises(TasksLeft, match=r'The handler left 1 task\(s\) running:\nA task was in forever, .*: await'):
            with client.websocket_connect('/misbehave/leak') as ws:
                ws.send('x')
                assert ws.receive() == 'leaked'

    def test_endless_handlers_fail_the_test(self, client):
        """A handler that does not end is a timeout."""
        with pytest.raises(WaitTimeout, match='Waited 0.05 seconds for the handler to end of /misbehave/stubborn'):
            with client.websocket_connect('/misbehave/stubborn', timeout=0.05) as ws:
                ws.send('x')
        seen.append('left')

    def test_blocking_handlers_fail_the_test(self, client, monkeypatch):
        """A handler that blocks the event loop is interrupted."""
        monkeypatch.setattr('apistar_ws.testing.client.TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave, .*: released.wait'):
            with client.websocket_connect('/misbehave/block', timeout=0.05) as ws:
                ws.send('x')

    def test_error_in_test_ends_handler(self, client):
        """An error of the test itself ends the handler."""
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
    """Headers given in bytes, which text cannot always represent."""

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
    """Mistaken calls of the client, with errors that show the correct call."""

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
        """Names that are declared, or not similar to a missing one, are accepted."""
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
    def test_page_exceptions_are_raised(self, client):
        """An exception of a page is raised in the test, as by API Star's client."""
        with pytest.raises(RuntimeError, match='on a page'):
            client.get('/failing')

    def test_slow_pages_fail_the_test(self, client, monkeypatch):
        """A request has a time limit."""
        monkeypatch.setattr('apistar_ws.testing.client.HTTP_TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='Waited 0.05 seconds for GET /slow'):
            client.get('/slow')

    async def test_calls_work_in_async_tests(self, client):
        """The client works while an event loop runs."""
        assert client.get('/cookies').status_code == 200

    async def test_connections_work_in_async_tests(self, client):
        """Connections of a client that was made without an event loop work too."""
        with client.websocket_connect('/echo/a') as ws:
            ws.send('x')
            assert ws.receive() == 'a 0 x'

    def test_event_loop_ends_with_the_client(self):
        """Closing or deleting the client closes its event loop."""
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
    """The thread of the application, and the interruption of code that blocks."""

    def test_application_runs_in_this_thread(self, client):
        """Pages and handlers run in the thread of the test."""
        assert client.get('/thread').json() == threading.get_ident()
        with client.websocket_connect('/thread') as ws:
            assert ws.receive_json() == threading.get_ident()

    async def test_async_tests_use_another_thread(self, client):
        """Where an event loop runs, the application has a thread of its own."""
        with client.websocket_connect('/thread') as ws:
            assert ws.receive_json() != threading.get_ident()

    async def test_blocking_another_thread_fails_too(self, client, monkeypatch):
        """A handler that blocks the other thread is a timeout."""
        monkeypatch.setattr('apistar_ws.testing.client.TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave, .*: released.wait'):
            with client.websocket_connect('/misbehave/block', timeout=0.05) as ws:
                ws.send('x')
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave'):
            client.get('/cookies')
        client.close()

    def test_caught_interruptions_fail_the_test(self, client, monkeypatch):
        """A handler that catches the interruption is a timeout nevertheless."""
        monkeypatch.setattr('apistar_ws.testing.client.TIMEOUT', 0.05)
        with pytest.raises(WaitTimeout, match='the event loop was in misbehave, .*: released.wait'):
            with client.websocket_connect('/misbehave/catch', timeout=0.05) as ws:
                ws.send('x')

    def test_uninterruptible_handlers_end_the_process(self):
        """A handler that catches every interruption ends the process."""
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

    def test_nested_calls_are_refused(self, client):
        """A handler cannot call the client that runs it."""
        calls.append(lambda: client.get('/cookies'))
        with pytest.raises(RuntimeError, match='called inside of a handler that it runs: make another TestClient'):
            client.get('/nested')

    async def test_nested_calls_in_threads_are_refused(self, client):
        """Neither can a handler that runs in another thread."""
        calls.append(lambda: client.get('/cookies'))
        with pytest.raises(RuntimeError, match='called inside of a handler that it runs'):
            client.get('/nested')

    def test_own_timers_are_on_time(self, client):
        """A timer of the test goes off on time after a call."""
        rung = threading.Event()
        before = signal.signal(signal.SIGALRM, lambda *args: rung.set())
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(WaitTimeout):
            with client.websocket_connect('/misbehave/sleep', timeout=0.05) as ws:
                ws.send('x')
                ws.receive()
        assert rung.wait(5)
        signal.signal(signal.SIGALRM, before)

    def test_own_timers_are_restored(self, client):
        """A timer of the test is restored after a call."""
        rung = []
        before = signal.signal(signal.SIGALRM, lambda *args: rung.append(True))
        signal.setitimer(signal.ITIMER_REAL, 1000)
        with client.websocket_connect('/echo/a') as ws:
            ws.send('x')
            assert ws.receive() == 'a 0 x'
        assert 0 < signal.setitimer(signal.ITIMER_REAL, 0)[0] <= 1000
        assert signal.signal(signal.SIGALRM, before) != before

    def test_exits_are_raised(self, client):
        """``SystemExit`` in a handler is raised in the test."""
        with pytest.raises(SystemExit):
            with client.websocket_connect('/misbehave/exit') as ws:
                ws.send('x')
                ws.receive()
        assert client.get('/cookies').status_code == 200

    async def test_exits_in_threads_are_raised(self, client):
        """``SystemExit`` in the other thread is raised in the test too."""
        with pytest.raises(SystemExit):
            with client.websocket_connect('/misbehave/exit') as ws:
                ws.send('x')
                ws.receive()


class TestRaisesOption:
    def test_raises_false_shows_the_close(self, client):
        """With ``raises=False`` the test gets the close with 1011."""
        with client.websocket_connect('/misbehave/raise', raises=False) as ws:
            ws.send('x')
            with pytest.raises(ConnectionClosed) as info:
                ws.receive()
        assert (info.value.code, info.value.reason) == (1011, 'Internal error')

    async def test_raises_false_works_in_async_tests(self):
        """``connect`` has the same argument."""
        async with connect(APP, '/misbehave/raise', raises=False) as ws:
            await ws.send('x')
            with pytest.raises(ConnectionClosed) as info:
                await ws.receive()
        assert info.value.code == 1011


class TestOverlapping:
    async def test_overlapping_connections_find_leaks(self):
        """Tasks are tracked until the last connection has ended."""
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

    async def test_later_task_factories_stay(self):
        """A task factory that was set during a connection is not replaced."""
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

    async def test_own_task_factories_are_restored(self):
        """The task factory of the event loop is used, and restored."""
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

    async def test_error_in_test_ends_handler(self):
        """An error of the test itself ends the handler."""
        with pytest.raises(ZeroDivisionError):
            async with connect(APP, '/misbehave/sleep') as ws:
                await ws.send('x')
                1 / 0

    async def test_silent_applications_raise(self):
        """An application that returns without an answer raises an error."""

        async def silent(scope, receive, send):
            """Do nothing."""

        with pytest.raises(ConnectionClosed, match='the application returned'):
            async with connect(silent, '/'):
                """Not get here."""

    async def test_denials_may_lack_a_body(self):
        """A denial without a body has its status."""

        async def denying(scope, receive, send):
            await send({'type': 'websocket.http.response.start', 'status': 418})

        with pytest.raises(HandshakeDenied) as info:
            async with connect(denying, '/'):
                """Not get here."""
        assert (info.value.status, info.value.body) == (418, b'')


def test_whole_urls_are_accepted():
    """Scheme, host and port of a URL are in the scope."""
    scope = handshake_scope('wss://example.com/a%20b?x=1', ['a'], [('Host', 'other'), ('X-A', 'b')])
    assert (scope['scheme'], scope['server'], scope['path']) == ('wss', ('example.com', 443), '/a b')
    headers = dict(scope['headers'])
    assert (headers[b'host'], headers[b'x-a'], headers[b'sec-websocket-protocol']) == (b'other', b'b', b'a')
    assert handshake_scope('https://example.com:8443/', [], [])['server'] == ('example.com', 8443)
    assert handshake_scope('/', [], [])['server'] == ('testserver', 80)


async def test_ended_tasks_are_described():
    """The text says that the task has ended."""

    async def nothing():
        """End at once."""

    task = asyncio.ensure_future(nothing())
    await task
    assert describe_task(task, 'It') == 'It has ended.'


def test_other_types_cannot_be_sent(client):
    """The error advises ``send_json``."""
    with client.websocket_connect('/echo/a') as ws:
        with pytest.raises(TypeError, match=r'text or bytes, not dict: send_json\(\) sends JSON'):
            ws.send({'a': 1})
