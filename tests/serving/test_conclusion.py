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


class TestOrder:
    @pytest.mark.parametrize(
        'message, expected',
        [
            ('end', ['accept', 'on_response NoneType', 'close']),
            ('forbid', ['accept', 'on_response Forbidden', 'close']),
            ('fail', ['accept', 'close', 'on_error KeyError']),
        ],
    )
    async def test_hooks_come_before_a_close_that_was_meant_and_after_one_that_was_not(self, message, expected):
        await run(made(Noting), scope('/do'), NotingPeer(CONNECT, text(message)))
        assert notes == expected

    async def test_hooks_that_only_see_errors_see_no_other_end(self, caplog):
        class Errors:
            on_error = Noting.on_error

        assert await run(made(Errors), scope('/do'), Peer(CONNECT, text('end'))) == [ACCEPT, CLOSE]
        assert await run(made(Errors), scope('/do'), Peer(CONNECT, disconnect())) == [ACCEPT]
        assert await run(made(Errors), scope('/sleep'), Peer(CONNECT, disconnect())) == [ACCEPT]
        assert (notes, caplog.records) == ([], [])

    async def test_a_hook_may_ask_for_the_return_value_and_there_is_none(self):
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
    async def test_a_hook_may_replace_the_response_and_so_the_close(self, message, response, close):
        class Replacing:
            def on_response(self) -> http.Response:
                return response

        assert await run(made(Replacing), scope('/do'), Peer(CONNECT, text(message))) == [ACCEPT, close]

    async def test_an_invalid_message_may_be_given_a_status_too(self):
        class Naming:
            def on_response(self, exc: Exception) -> http.Response:
                return http.JSONResponse('Unreadable', exc.status_code)

        @websocket_route('/json')
        async def json(ws: WebSocket):
            await ws.receive_json()

        app = ASyncApp(collect_routes(json), event_hooks=[Naming])
        assert await run(app, scope('/json'), Peer(CONNECT, text('{'))) == [ACCEPT, closed(4400, 'Unreadable')]

    async def test_what_cannot_be_said_is_an_error(self, caplog):
        class Replacing:
            def on_response(self) -> http.Response:
                return http.Response(b'', 1234)

        assert await run(made(Replacing), scope('/do'), Peer(CONNECT, text('end'))) == [ACCEPT, ERROR]
        assert [name for name, kind in logged(caplog)] == ['the handler failed.']


class TestFailingHooks:
    async def test_if_one_of_on_response_fails_all_of_on_error_run(self, caplog):
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

    async def test_a_hook_that_refuses_by_failing_is_logged_by_its_name(self, caplog):
        class Failing:
            def on_request(self):
                raise OSError('disk full')

        sent = await run(made(Noting, Failing), scope('/do'), Peer(CONNECT))
        assert (sent[0]['status'], notes) == (500, ['on_error OSError'])
        assert logged(caplog) == [('Failing.on_request failed.', OSError)]

    @virtual
    async def test_one_that_takes_too_long_holds_the_close_up_for_two_seconds_at_most(self, caplog):
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
    async def test_one_whose_clean_up_takes_too_long_is_ended_again(self, caplog):
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
    async def test_however_many_fail_the_end_comes_soon(self, caplog):
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
    async def test_a_client_that_does_not_take_the_close_does_not_keep_the_hooks_from_it(self):
        peer = BlockedPeer(CONNECT, text('fail'))
        task = asyncio.ensure_future(run(made(Noting), scope('/do'), peer))
        await asyncio.sleep(2.5)
        assert notes == ['on_error KeyError']
        peer.unblock.set()
        await task

    async def test_a_disconnect_that_a_hook_meets_is_no_error_in_the_log(self, caplog):
        class Sending:
            async def on_response(self, ws: WebSocket):
                await ws.receive()

        sent = await run(made(Noting, Sending), scope('/do'), Peer(CONNECT, text('end'), disconnect()))
        assert (sent, notes, logged(caplog)) == ([ACCEPT], ['on_error WebSocketDisconnect'], [])

    @pytest.mark.parametrize('message', ['fail', 'forbid'])
    async def test_the_test_client_raises_what_nobody_expected(self, message):
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

    async def test_it_is_asked_while_the_exception_is_handled(self):
        def answer(exc):
            assert sys.exc_info()[1] is exc
            raise

        sent = await run(self.app(answer), scope('/do'), Peer(CONNECT, text('fail')))
        assert sent == [ACCEPT, ERROR]
        assert notes == ['asked for KeyError', 'on_error KeyError']

    @needs_python(3, 11)
    async def test_of_a_group_the_exception_that_decides_is_handled(self):
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

    async def test_it_is_not_asked_for_what_is_the_connections_own(self):
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
    async def test_it_is_not_asked_for_the_cancellation_of_another_task(self):
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
    async def test_an_answer_that_no_code_can_tell_is_none(self, answer, caplog):
        sent = await run(self.app(lambda exc: answer), scope('/do'), Peer(CONNECT, text('forbid')))
        assert (sent, notes[1:]) == ([ACCEPT, ERROR], ['on_error Forbidden'])
        assert logged(caplog) == [('the handler failed.', exceptions.Forbidden)]

    async def test_an_answer_that_no_handshake_can_be_given_is_a_denial_500(self, caplog):
        class Refusing:
            def on_request(self):
                raise exceptions.HTTPException('odd', status_code=700)

        sent = await run(made(Refusing), scope('/do'), Peer(CONNECT))
        assert (sent[0]['status'], [kind for name, kind in logged(caplog)]) == (500, [ValueError])

    async def test_its_own_failure_is_told_as_such(self, caplog):
        def answer(exc):
            raise OSError('disk full')

        sent = await run(self.app(answer), scope('/do'), Peer(CONNECT, text('forbid')))
        assert (sent, notes[1:]) == ([ACCEPT, ERROR], ['on_error OSError'])
        assert logged(caplog) == [('App.exception_handler failed.', OSError)]

    async def test_an_error_handler_that_fails_is_done_without(self, caplog):
        class App(ASyncApp):
            def error_handler(self) -> http.Response:
                raise OSError('disk full')

        class Failing:
            def on_request(self):
                raise KeyError

        sent = await run(made(Failing, kind=App), scope('/do'), Peer(CONNECT))
        assert (sent[0]['status'], sent[1]['body']) == (500, b'"Server error"')
        assert [kind for name, kind in logged(caplog)] == [KeyError, OSError]


class TestEndsFromOutside:
    async def started(self, app, url, peer):
        task = asyncio.ensure_future(app(scope(url), peer.receive, peer.send))
        while ACCEPT not in peer.sent:
            await asyncio.sleep(0)
        return task

    async def test_a_handler_that_the_server_cancels_is_one_whose_client_has_left(self):
        peer = NotingPeer(CONNECT)
        task = await self.started(made(Noting), '/sleep', peer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT, closed(1012)]
        assert sorted(notes) == ['accept', 'close', 'on_response WebSocketDisconnect']

    async def test_a_hook_that_is_cancelled_has_failed_and_the_cancellation_goes_on(self):
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

    async def test_a_cancellation_while_an_error_is_told_goes_on_when_all_is_told(self):
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

    async def test_a_handshake_that_the_server_cancels_is_not_answered(self):
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

    async def test_a_close_that_the_client_does_not_take_is_not_waited_for(self):
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

    async def test_a_program_that_exits_is_an_error_of_the_handler(self):
        peer = Peer(CONNECT, text('exit'))
        with pytest.raises(SystemExit):
            await made(Noting)(scope('/do'), peer.receive, peer.send)
        assert (peer.sent, notes) == ([ACCEPT, ERROR], ['on_error SystemExit'])


class TestReleased:
    @virtual
    async def test_a_client_that_leaves_while_hooks_run_does_not_end_them(self):
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

    async def test_a_cancellation_of_ours_that_is_on_its_way_does_not_reach_the_hooks(self):
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
    'url, script', [('/do', [disconnect()]), ('/do', [text('forbid')]), ('/sleep', [disconnect()])]
)
@virtual
async def test_nothing_waits_for_the_garbage_collector(url, script):
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
