"""What follows a handler: hooks, close and log, in their order, and what fails in between."""

import asyncio
import contextlib
import gc
import logging
import sys

import pytest
from apistar import exceptions, http
from apistar.server.components import ReturnValue

from apistar_ws import ASyncApp, WebSocket, WebSocketDisconnect, collect_routes, websocket_route
from apistar_ws.connection.watch import CHECK_INTERVAL
from apistar_ws.connection.websocket import connection_of
from apistar_ws.testing import connect
from tests.clock import virtual
from tests.conversations import ACCEPT, CLOSE, CONNECT, BlockedPeer, Peer, closed, disconnect, run, scope, text
from tests.needs import needs_python

ERROR = closed(1011, 'Internal error')

notes = []


@pytest.fixture(autouse=True)
def forget():
    notes.clear()


class NotingPeer(Peer):
    async def send(self, message):
        notes.append(message['type'].partition('.')[2])
        await super().send(message)


@websocket_route('/do')
async def do(ws: WebSocket):
    async for message in ws:
        if message == 'forbid':
            raise exceptions.Forbidden()
        if message == 'fail':
            raise KeyError(message)
        if message == 'exit':
            raise SystemExit
        assert message == 'end'
        break


@websocket_route('/sleep')
async def sleep(ws: WebSocket):
    await asyncio.sleep(3600)


class Noting:
    def on_response(self, exc: Exception):
        notes.append('on_response %s' % type(exc).__name__)

    def on_error(self, exc: Exception):
        notes.append('on_error %s' % type(exc).__name__)


def made(*hooks, kind=ASyncApp):
    return kind(collect_routes(do, sleep), event_hooks=list(hooks))


def logged(caplog):
    """Return what the log holds: the name after the connection, and the class of the exception."""
    return [
        (record.getMessage().partition('>: ')[2].rpartition('.<locals>.')[2], record.exc_info[0])
        for record in caplog.records
        if record.levelno > logging.DEBUG
    ]


class TestHookOrder:
    @pytest.mark.parametrize(
        'message, expected',
        [
            ('end', ['accept', 'on_response NoneType', 'close']),
            ('forbid', ['accept', 'on_response Forbidden', 'close']),
            ('fail', ['accept', 'close', 'on_error KeyError']),
        ],
    )
    async def test_hooks_follow_the_closing_order(self, message, expected):
        """Hooks run before an intended close and after the close of a failure."""
        await run(made(Noting), scope('/do'), NotingPeer(CONNECT, text(message)))
        assert notes == expected

    async def test_error_hooks_see_errors_only(self, caplog):
        """Hooks with only on_error see no other end of a connection."""

        class Errors:
            on_error = Noting.on_error

        assert await run(made(Errors), scope('/do'), Peer(CONNECT, text('end'))) == [ACCEPT, CLOSE]
        assert await run(made(Errors), scope('/do'), Peer(CONNECT, disconnect())) == [ACCEPT]
        assert await run(made(Errors), scope('/sleep'), Peer(CONNECT, disconnect())) == [ACCEPT]
        assert (notes, caplog.records) == ([], [])

    async def test_return_value_is_empty(self):
        """A hook may ask for the return value, which is None."""

        class Asking:
            def on_response(self, value: ReturnValue):
                notes.append(value)

        await run(made(Asking), scope('/do'), Peer(CONNECT, text('end')))
        assert notes == [None]


class TestReplacedResponse:
    @pytest.mark.parametrize(
        'message, response, close',
        [
            ('end', http.JSONResponse('No more', 410), closed(4410, 'No more')),
            ('end', http.JSONResponse({'fine': True}, 200), CLOSE),
            ('forbid', http.JSONResponse({'in': ['a', 'b']}, 404), closed(4404, '{"in":["a","b"]}')),
            ('forbid', http.HTMLResponse('<p>No', 404), closed(4404)),
            ('forbid', http.Response(b'{', 404, {'content-type': 'application/problem+json'}), closed(4404)),
            ('forbid', http.Response(b'"x"', 404, {'content-type': 'application/problem+json'}), closed(4404, 'x')),
        ],
    )
    async def test_replaced_response_changes_the_close(self, message, response, close):
        """A hook may replace the response, which changes the close."""

        class Replacing:
            def on_response(self) -> http.Response:
                return response

        assert await run(made(Replacing), scope('/do'), Peer(CONNECT, text(message))) == [ACCEPT, close]

    async def test_invalid_message_may_get_a_status(self):
        """A hook may give the response of an invalid message a status."""

        class Naming:
            def on_response(self, exc: Exception) -> http.Response:
                return http.JSONResponse('Unreadable', exc.status_code)

        @websocket_route('/json')
        async def json(ws: WebSocket):
            await ws.receive_json()

        app = ASyncApp(collect_routes(json), event_hooks=[Naming])
        assert await run(app, scope('/json'), Peer(CONNECT, text('{'))) == [ACCEPT, closed(4400, 'Unreadable')]

    async def test_unknown_status_is_an_error(self, caplog):
        """A status without a close code is an error."""

        class Replacing:
            def on_response(self) -> http.Response:
                return http.Response(b'', 1234)

        assert await run(made(Replacing), scope('/do'), Peer(CONNECT, text('end'))) == [ACCEPT, ERROR]
        assert [name for name, kind in logged(caplog)] == ['the handler failed.']


class TestFailingHooks:
    async def test_failed_on_response_runs_on_error(self, caplog):
        """If an on_response hook fails, all on_error hooks run."""

        class Failing:
            def on_response(self):
                raise OSError('disk full')

            def on_error(self, exc: Exception):
                notes.append('on_error of Failing')
                raise ValueError

        sent = await run(made(Noting, Failing), scope('/do'), NotingPeer(CONNECT, text('end')))
        assert sent == [ACCEPT, ERROR]
        assert notes == ['accept', 'close', 'on_error of Failing', 'on_error OSError']
        assert logged(caplog) == [('Failing.on_response failed.', OSError), ('Failing.on_error failed.', ValueError)]

    async def test_failing_guard_is_logged(self, caplog):
        """A hook that fails in on_request is logged with its name."""

        class Failing:
            def on_request(self):
                raise OSError('disk full')

        sent = await run(made(Noting, Failing), scope('/do'), Peer(CONNECT))
        assert (sent[0]['status'], notes) == (500, ['on_error OSError'])
        assert logged(caplog) == [('Failing.on_request failed.', OSError)]

    @virtual
    async def test_slow_hook_delays_close_briefly(self, caplog):
        """A slow hook delays the close for two seconds at most."""

        class Hanging:
            async def on_response(self):
                await asyncio.sleep(3600)

            async def on_error(self, ws: WebSocket):
                notes.append((loop.time() - begun <= 2, ws.close_code))
                await asyncio.sleep(3600)

        loop = asyncio.get_running_loop()
        begun = loop.time()
        sent = await run(made(Noting, Hanging), scope('/do'), Peer(CONNECT, text('end')))
        assert sent == [ACCEPT, ERROR]
        assert notes == [(True, 1011), 'on_error TimeoutError']
        assert [name for name, kind in logged(caplog)] == ['Hanging.on_response failed.', 'Hanging.on_error failed.']

    @virtual
    async def test_slow_cleanup_is_cancelled_again(self, caplog):
        """A hook whose clean-up takes too long is cancelled again."""

        class Hanging:
            async def on_response(self):
                try:
                    await asyncio.sleep(3600)
                finally:
                    await asyncio.sleep(3600)

        class Swallowing:
            async def on_response(self):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)

        for hook in (Hanging, Swallowing):
            begun = asyncio.get_running_loop().time()
            peer = Peer(CONNECT, text('end'))
            assert (await run(made(hook, Swallowing), scope('/do'), peer))[0] == ACCEPT
            assert (len(peer.sent), asyncio.get_running_loop().time() - begun <= 2.1) == (2, True)

    @virtual
    async def test_many_failures_end_soon(self, caplog):
        """The connection ends soon, however many hooks fail."""

        class Hanging:
            def on_response(self):
                raise OSError('disk full')

            async def on_error(self):
                notes.append('on_error')
                await asyncio.sleep(3600)

        hooks = [type('Hanging%d' % number, (Hanging,), {}) for number in range(5)]
        begun = asyncio.get_running_loop().time()
        assert await run(made(*hooks), scope('/do'), Peer(CONNECT, text('end'))) == [ACCEPT, ERROR]
        assert (notes, asyncio.get_running_loop().time() - begun < 2.5) == (['on_error'] * 5, True)

    @virtual
    async def test_a_denial_is_not_late_either(self, caplog):
        class App(ASyncApp):
            async def error_handler(self) -> http.Response:
                await asyncio.sleep(3600)

        class Hanging:
            def on_request(self):
                raise exceptions.Forbidden()

            async def on_response(self):
                await asyncio.sleep(3600)

        begun = asyncio.get_running_loop().time()
        sent = await run(made(Hanging, kind=App), scope('/do'), Peer(CONNECT))
        assert (sent[0]['status'], asyncio.get_running_loop().time() - begun <= 2.1) == (500, True)

    @virtual
    async def test_blocked_close_does_not_stop_hooks(self):
        """Hooks run although the client does not read the close."""
        peer = BlockedPeer(CONNECT, text('fail'))
        task = asyncio.ensure_future(run(made(Noting), scope('/do'), peer))
        await asyncio.sleep(2.5)
        assert notes == ['on_error KeyError']
        peer.unblock.set()
        await task

    async def test_disconnect_in_hook_is_not_logged(self, caplog):
        """A disconnect that a hook meets is not logged as an error."""

        class Sending:
            async def on_response(self, ws: WebSocket):
                await ws.receive()

        sent = await run(made(Noting, Sending), scope('/do'), Peer(CONNECT, text('end'), disconnect()))
        assert (sent, notes, logged(caplog)) == ([ACCEPT], ['on_error WebSocketDisconnect'], [])

    @pytest.mark.parametrize('message', ['fail', 'forbid'])
    async def test_client_raises_unexpected_exceptions(self, message):
        """The test client raises unexpected exceptions."""

        class Failing:
            def on_response(self):
                raise KeyError('hook')

        with pytest.raises(KeyError):
            async with connect(made(Failing), '/do') as ws:
                await ws.send(message)
                await ws.receive()


class TestExceptionHandler:
    def app(self, answer):
        class App(ASyncApp):
            def exception_handler(self, exc: Exception) -> http.Response:
                notes.append('asked for %s' % type(exc).__name__)
                return answer(exc)

        return made(Noting, kind=App)

    async def test_exception_is_current_during_call(self):
        """The exception handler is called while the exception is being handled."""

        def answer(exc):
            assert sys.exc_info()[1] is exc
            raise

        sent = await run(self.app(answer), scope('/do'), Peer(CONNECT, text('fail')))
        assert sent == [ACCEPT, ERROR]
        assert notes == ['asked for KeyError', 'on_error KeyError']

    @needs_python(3, 11)
    async def test_deciding_exception_is_handled(self):
        """Of an exception group the deciding exception is handled."""

        def answer(exc):
            assert sys.exc_info()[1] is exc
            return http.JSONResponse('Missing', 404)

        class App(ASyncApp):
            def exception_handler(self, exc: Exception) -> http.Response:
                return answer(exc)

        @websocket_route('/group')
        async def group(ws: WebSocket):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail())

        async def fail():
            raise KeyError('fail')

        assert await run(App(collect_routes(group)), scope('/group'), Peer(CONNECT)) == [
            ACCEPT,
            closed(4404, 'Missing'),
        ]

    async def test_disconnects_are_not_passed(self):
        """The exception handler is not called for disconnects and invalid messages."""

        @websocket_route('/own')
        async def own(ws: WebSocket):
            await ws.receive()
            await ws.receive_json()

        app = self.app(None)
        app.__init__(collect_routes(own, sleep), event_hooks=[Noting])
        for url, script in [('/own', [text('x'), text('{')]), ('/own', [disconnect()]), ('/sleep', [disconnect()])]:
            await run(app, scope(url), Peer(CONNECT, *script))
        assert notes == ['on_response %s' % name for name in ('InvalidMessage', *['WebSocketDisconnect'] * 2)]

    @needs_python(3, 11)
    async def test_foreign_cancellation_is_not_passed(self):
        """The exception handler is not called for the cancellation of another task."""

        @websocket_route('/other')
        async def other():
            task = asyncio.ensure_future(asyncio.sleep(3600))
            task.cancel()
            await task

        app = self.app(None)
        app.__init__(collect_routes(other), event_hooks=[Noting])
        assert await run(app, scope('/other'), Peer(CONNECT)) == [ACCEPT, ERROR]
        assert notes == ['on_error CancelledError']

    @pytest.mark.parametrize('answer', [http.Response(b'', 1234), http.Response(b'', 99), None])
    async def test_unusable_answer_closes_with_1011(self, answer, caplog):
        """An answer that has no close code is a failure and closes with 1011."""
        sent = await run(self.app(lambda exc: answer), scope('/do'), Peer(CONNECT, text('forbid')))
        assert (sent, notes[1:]) == ([ACCEPT, ERROR], ['on_error Forbidden'])
        assert logged(caplog) == [('the handler failed.', exceptions.Forbidden)]

    async def test_unusable_answer_denies_with_500(self, caplog):
        """An answer that a handshake cannot be given is a denial with 500."""

        class Refusing:
            def on_request(self):
                raise exceptions.HTTPException('odd', status_code=700)

        sent = await run(made(Refusing), scope('/do'), Peer(CONNECT))
        assert (sent[0]['status'], [kind for name, kind in logged(caplog)]) == (500, [ValueError])

    async def test_failed_handler_is_logged(self, caplog):
        """A failure of the exception handler is logged as its own."""

        def answer(exc):
            raise OSError('disk full')

        sent = await run(self.app(answer), scope('/do'), Peer(CONNECT, text('forbid')))
        assert (sent, notes[1:]) == ([ACCEPT, ERROR], ['on_error OSError'])
        assert logged(caplog) == [('App.exception_handler failed.', OSError)]

    async def test_failed_error_handler_is_replaced(self, caplog):
        """If the error handler fails, the denial is the default one."""

        class App(ASyncApp):
            def error_handler(self) -> http.Response:
                raise OSError('disk full')

        class Failing:
            def on_request(self):
                raise KeyError

        sent = await run(made(Failing, kind=App), scope('/do'), Peer(CONNECT))
        assert (sent[0]['status'], sent[1]['body']) == (500, b'"Server error"')
        assert [kind for name, kind in logged(caplog)] == [KeyError, OSError]


@pytest.mark.parametrize('connect', [True, False])
@pytest.mark.parametrize('call', [lambda ws: ws.close(), lambda ws: ws.deny(402)])
async def test_hook_may_refuse_in_another_task(call, connect, caplog):
    """A handler does not run after its hook has refused, whichever task has called."""

    class Guard:
        async def on_request(self, ws: WebSocket):
            async def refuse():
                await call(ws)

            await asyncio.gather(refuse())

    @websocket_route('/guarded', connect=connect)
    async def guarded(ws: WebSocket):
        raise AssertionError('The handler runs.')  # pragma: no cover

    sent = await run(ASyncApp(collect_routes(guarded), event_hooks=[Guard]), scope('/guarded'), Peer(CONNECT))
    assert (ACCEPT in sent, len(sent) > 0, caplog.records) == (False, True, [])


async def test_close_for_a_response_is_logged(caplog):
    """A hook that changes the response of a handler that has returned decides the close, and the log says so."""
    caplog.set_level(logging.INFO)

    class Missing:
        def on_response(self, response: http.Response):
            response.status_code = 404

    @websocket_route('/missing')
    async def missing(ws: WebSocket):
        """Return at once."""

    app = ASyncApp(collect_routes(missing), event_hooks=[Missing])
    assert await run(app, scope('/missing'), Peer(CONNECT)) == [ACCEPT, closed(4404)]
    assert [record.getMessage().partition(': ')[2] for record in caplog.records] == ['closed with 4404, .']


async def test_pending_cancellation_outranks_a_failure(caplog):
    """A handler that fails at the moment at which the server cancels it is cancelled."""

    @websocket_route('/both')
    async def both(ws: WebSocket):
        asyncio.current_task().cancel()
        raise KeyError

    peer = Peer(CONNECT)
    task = asyncio.ensure_future(run(ASyncApp(collect_routes(both)), scope('/both'), peer))
    await asyncio.wait({task})
    assert task.cancelled()


@needs_python(3, 11)
@pytest.mark.parametrize('waits', [False, True])
async def test_failed_task_group_is_no_cancellation(waits, caplog):
    """A count that a task group leaves behind (Python 3.11 and 3.12) does not make a restart of a failure."""

    class Troubled:
        async def on_error(self):
            if waits:
                task = asyncio.ensure_future(asyncio.sleep(60))
                await asyncio.sleep(0)
                task.cancel()
                await task

    @websocket_route('/group')
    async def group(ws: WebSocket):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())

    async def fail():
        await asyncio.sleep(0)
        raise KeyError

    app = ASyncApp(collect_routes(group), event_hooks=[Troubled])
    assert await run(app, scope('/group'), Peer(CONNECT)) == [ACCEPT, closed(1011, 'Internal error')]
    assert asyncio.current_task().cancelling() == 0
    assert len(caplog.records) == 1 + waits


class TestCancellation:
    async def started(self, app, url, peer):
        task = asyncio.ensure_future(app(scope(url), peer.receive, peer.send))
        while ACCEPT not in peer.sent:
            await asyncio.sleep(0)
        return task

    async def test_server_cancellation_is_a_disconnect(self):
        """To the hooks, a handler that the server cancels has lost its client."""
        peer = NotingPeer(CONNECT)
        task = await self.started(made(Noting), '/sleep', peer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT, closed(1012)]
        assert sorted(notes) == ['accept', 'close', 'on_response WebSocketDisconnect']

    async def test_cancelled_hook_has_failed(self):
        """A hook that is cancelled has failed, and the cancellation continues."""

        class Waiting:
            async def on_response(self):
                waits.set()
                await asyncio.sleep(3600)

        waits = asyncio.Event()
        peer = Peer(CONNECT, text('end'))
        task = await self.started(made(Noting, Waiting), '/do', peer)
        await asyncio.wait_for(waits.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT, closed(1012)]
        assert notes == ['on_error CancelledError']

    async def test_cancellation_waits_for_on_error(self):
        """A cancellation during on_error continues once all hooks have run."""

        class Waiting:
            async def on_error(self):
                waits.set()
                await asyncio.sleep(3600)

        waits = asyncio.Event()
        task = await self.started(made(Noting, Waiting), '/do', Peer(CONNECT, text('fail')))
        await asyncio.wait_for(waits.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert notes == ['on_error KeyError']

    async def test_cancelled_handshake_is_not_answered(self):
        """A handshake that the server cancels is not answered."""

        class Waiting:
            async def on_request(self):
                notes.append('waits')
                await asyncio.sleep(3600)

        peer = Peer(CONNECT)
        task = asyncio.ensure_future(made(Noting, Waiting)(scope('/do'), peer.receive, peer.send))
        while 'waits' not in notes:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (peer.sent, notes) == ([], ['waits', 'on_response WebSocketDisconnect'])

    async def test_blocked_close_is_not_awaited(self):
        """A cancelled handler does not wait for a client that does not read the close."""

        @websocket_route('/late')
        async def late(ws: WebSocket):
            # As the watch does.
            connection_of(ws).abort(1001, 'Nothing received')
            await ws.receive()

        peer = BlockedPeer(CONNECT)
        task = await self.started(ASyncApp(collect_routes(late)), '/late', peer)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT]

    async def test_program_exit_is_an_error(self):
        """An exit of the program is an error of the handler."""
        peer = Peer(CONNECT, text('exit'))
        with pytest.raises(SystemExit):
            await made(Noting)(scope('/do'), peer.receive, peer.send)
        assert (peer.sent, notes) == ([ACCEPT, ERROR], ['on_error SystemExit'])


class TestAfterTheHandler:
    @virtual
    async def test_departed_client_does_not_end_hooks(self):
        """A client that leaves while hooks run does not end them."""

        class Committing:
            async def on_response(self):
                begun.set()
                await asyncio.sleep(1.5)
                notes.append('done')

        begun = asyncio.Event()
        peer = Peer(CONNECT, text('end'))
        task = asyncio.ensure_future(run(made(Noting, Committing), scope('/do'), peer))
        await begun.wait()
        peer.add(disconnect())
        assert await task == [ACCEPT]
        assert notes == ['done', 'on_response NoneType']

    async def test_pending_cancellation_misses_hooks(self):
        """A pending cancellation of the handler does not reach the hooks."""

        class Committing:
            async def on_response(self):
                await asyncio.sleep(0)
                notes.append('done')

        @websocket_route('/late')
        async def late(ws: WebSocket):
            # As the watch does at this very moment.
            connection_of(ws).abort(1001, 'Nothing received')
            raise WebSocketDisconnect(1001)

        app = ASyncApp(collect_routes(late), event_hooks=[Committing])
        assert await run(app, scope('/late'), Peer(CONNECT)) == [ACCEPT, closed(1001, 'Nothing received')]
        assert notes == ['done']


@pytest.mark.parametrize(
    'url, script',
    [
        ('/do', [disconnect()]),
        ('/do', [text('forbid')]),
        ('/do', [text('fail')]),
        ('/sleep', [disconnect()]),
        ('/none', []),
    ],
)
@virtual
async def test_nothing_waits_for_the_garbage_collector(url, script, caplog):
    caplog.set_level(logging.CRITICAL)
    app = made(Noting)
    await run(app, scope(url), Peer(CONNECT, *script))
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await run(app, scope(url), Peer(CONNECT, *script))
        # What the watch looked at last is in one of its timers.
        await asyncio.sleep(2 * CHECK_INTERVAL)
        left = [item for item in gc.get_objects() if isinstance(item, WebSocket) and item.scope['path'] == url]
        assert left == []
    finally:
        gc.enable()
