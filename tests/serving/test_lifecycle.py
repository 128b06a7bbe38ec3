"""Whole connections, from the handshake to the end: everything that is received, everything that is sent."""

import asyncio
import contextlib
import gc
import logging
import sys
import tracemalloc

import pytest
from apistar import exceptions, http
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, WebSocketDisconnect, collect_routes, websocket_route
from tests.conversations import ACCEPT, CLOSE, CONNECT, ImpatientPeer, Peer, closed, disconnect, run, scope, sent, text


class Session:
    """Something that a component supplies."""


@websocket_route('/chat/{room}')
async def chat(room: str, ws: WebSocket):
    async for message in ws:
        await ws.send('%s: %s' % (room, message))


@websocket_route('/quiet')
async def quiet():
    """Ask for nothing."""


@websocket_route('/fails')
async def fails(ws: WebSocket):
    raise RuntimeError('password=hunter2')


def denial(status, body, *headers):
    length = (b'content-length', b'%d' % len(body))
    return [
        {
            'type': 'websocket.http.response.start',
            'status': status,
            'headers': [*headers, length, (b'content-type', b'application/json')],
        },
        {'type': 'websocket.http.response.body', 'body': body},
    ]


class TestConnections:
    async def test_handler_connects_runs_and_closes(self):
        """A handler is connected, run and closed."""
        app = ASyncApp(collect_routes(chat))
        sent_messages = await run(app, scope('/chat/a'), Peer(CONNECT, text('hello'), disconnect()))
        assert sent_messages == [ACCEPT, sent('a: hello')]

    async def test_websocket_argument_is_optional(self):
        """A handler need not ask for the WebSocket."""
        assert await run(ASyncApp(collect_routes(quiet)), scope('/quiet'), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_unknown_path_is_denied(self):
        """An unknown path is denied with the answer of HTTP."""
        assert await run(ASyncApp([]), scope('/nope'), Peer(CONNECT)) == denial(404, b'"Not found"')

    async def test_denial_without_extension_is_a_close(self):
        """Without the ASGI extension a denial is a close."""
        assert await run(ASyncApp([]), scope('/nope', extensions={}), Peer(CONNECT)) == [CLOSE]

    async def test_departed_client_is_not_answered(self, caplog):
        """A client that leaves before the answer is not answered."""
        for url in ('/nope', '/quiet'):
            assert await run(ASyncApp(collect_routes(quiet)), scope(url), Peer(disconnect(1006))) == []
        assert caplog.records == []

    async def test_leaving_during_denial_is_no_error(self, caplog):
        """A client that leaves during the denial is not an error."""
        peer = Peer(CONNECT)
        peer.send = Peer(OSError('gone')).receive

        async def send(message):
            raise OSError('gone')

        peer.send = send
        await run(ASyncApp([]), scope('/nope'), peer)
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []

    async def test_unexpected_exception_closes_with_1011(self, caplog):
        """An unexpected exception closes with 1011 and is logged."""
        assert await run(ASyncApp(collect_routes(fails)), scope('/fails'), Peer(CONNECT)) == [
            ACCEPT,
            closed(1011, 'Internal error'),
        ]
        (record,) = caplog.records
        assert (record.name, record.levelname, record.exc_info[0]) == ('apistar_ws', 'ERROR', RuntimeError)

    @pytest.mark.parametrize('status', [1000, 99, 0])
    async def test_status_without_code_is_an_error(self, status, caplog):
        """A status without a close code is logged as an error."""

        @websocket_route('/status')
        async def handler(ws: WebSocket):
            raise exceptions.HTTPException('odd', status_code=status)

        assert await run(ASyncApp(collect_routes(handler)), scope('/status'), Peer(CONNECT)) == [
            ACCEPT,
            closed(1011, 'Internal error'),
        ]
        assert [record.exc_info[0] for record in caplog.records] == [exceptions.HTTPException]

    async def test_server_cancellation_closes_with_1012(self):
        """A cancellation by the server closes with 1012 and continues."""
        peer = Peer(CONNECT)
        task = asyncio.ensure_future(ASyncApp(collect_routes(chat))(scope('/chat/a'), peer.receive, peer.send))
        while not peer.sent:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT, closed(1012)]

    async def test_foreign_cancellation_is_a_failure(self, caplog):
        """The cancellation of another task is a failure of the handler."""

        @websocket_route('/other')
        async def other(ws: WebSocket):
            task = asyncio.ensure_future(asyncio.sleep(3600))
            task.cancel()
            await task

        # Python 3.10 does not count cancellations, and this one is taken for the server's.
        counts = sys.version_info >= (3, 11)
        peer = Peer(CONNECT)
        with contextlib.nullcontext() if counts else pytest.raises(asyncio.CancelledError):
            await run(ASyncApp(collect_routes(other)), scope('/other'), peer)
        assert peer.sent == [ACCEPT, closed(1011, 'Internal error') if counts else closed(1012)]
        assert len(caplog.records) == int(counts)

    async def test_group_member_decides(self, caplog):
        """The exception in a failed task group decides the close."""

        class Group(Exception):
            exceptions = (exceptions.NotFound(),)

        @websocket_route('/group')
        async def group(ws: WebSocket):
            raise Group

        assert await run(ASyncApp(collect_routes(group)), scope('/group'), Peer(CONNECT)) == [
            ACCEPT,
            closed(4404, 'Not found'),
        ]
        assert caplog.records == []

    async def test_foreign_disconnect_is_a_failure(self, caplog):
        """A disconnect of another WebSocket is a failure of the handler."""

        @websocket_route('/other')
        async def other(ws: WebSocket):
            raise WebSocketDisconnect(1001)

        assert await run(ASyncApp(collect_routes(other)), scope('/other'), Peer(CONNECT)) == [
            ACCEPT,
            closed(1011, 'Internal error'),
        ]
        assert len(caplog.records) == 1


class TestHooks:
    """Event hooks as API Star documents them, on handshakes."""

    def made(self, *hooks, routes=None, **options):
        return ASyncApp(routes or collect_routes(chat, quiet, fails), event_hooks=list(hooks), **options)

    async def test_a_guard_protects_websockets_too(self):
        class Guard:
            def on_request(self, request: http.Request):
                if 'authorization' not in request.headers:
                    raise exceptions.Forbidden()

        for hook in (Guard, Guard()):
            app = self.made(hook)
            assert await run(app, scope('/quiet'), Peer(CONNECT)) == denial(403, b'"Forbidden"')
            assert await run(app, scope('/quiet', [('authorization', 'x')]), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_later_hooks_run_too(self):
        """Hooks that are added after the start run, too."""

        class Guard:
            def on_request(self):
                raise exceptions.Forbidden()

        class Overriding(ASyncApp):
            def get_event_hooks(self):
                return [Guard().on_request], [], []

        appended = self.made()
        appended.event_hooks.append(Guard)
        for app in (appended, Overriding(collect_routes(quiet), event_hooks=[])):
            assert await run(app, scope('/quiet'), Peer(CONNECT)) == denial(403, b'"Forbidden"')
        # As over HTTP: without event_hooks nobody asks for them.
        assert await run(Overriding(collect_routes(quiet)), scope('/quiet'), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_callable_object_may_be_hook(self):
        """A hook method may be an object with an async call."""

        class Refuse:
            async def __call__(self):
                raise exceptions.Forbidden()

        class Guard:
            on_request = Refuse()

        class Delegating:
            def on_request(self):
                return Refuse()()

        for hook in (Guard, Guard(), Delegating):
            assert await run(self.made(hook), scope('/quiet'), Peer(CONNECT)) == denial(403, b'"Forbidden"')

    async def test_generator_is_refused(self, caplog):
        """A hook that is a generator is refused, since its body would not run."""

        class Generator:
            async def on_request(self):
                yield  # pragma: no cover

        class Plain:
            def on_error(self):
                yield  # pragma: no cover

        for hook in (Generator, Plain()):
            with pytest.raises(exceptions.ConfigurationError, match='on_.* is a generator: API Star would call it and'):
                self.made(hook)
        app = self.made()
        app.event_hooks.append(Generator)
        assert await run(app, scope('/quiet'), Peer(CONNECT)) == denial(500, b'"Server error"')

    async def test_closing_hook_refuses_quietly(self, caplog):
        """A hook that closes the connection refuses it, which is not an error."""

        class Refusing:
            async def on_request(self, ws: WebSocket):
                await ws.close()

        class Denying:
            def on_request(self):
                raise exceptions.Forbidden()

            async def on_response(self, ws: WebSocket):
                await ws.close()

        for hook in (Refusing, Denying):
            assert await run(self.made(hook), scope('/quiet'), Peer(CONNECT)) == [CLOSE]
        assert caplog.records == []

    @pytest.mark.parametrize('kind', ['disconnect', *['cancelled'] * (sys.version_info >= (3, 11)), 'status'])
    async def test_unanswerable_exception_denies_with_500(self, kind, caplog):
        """An exception without an HTTP answer is a denial with 500."""
        seen = []

        class Failing:
            async def on_request(self):
                if kind == 'disconnect':
                    raise WebSocketDisconnect(1001)
                if kind == 'status':
                    raise exceptions.HTTPException('odd', status_code=1234)
                task = asyncio.ensure_future(asyncio.sleep(3600))
                task.cancel()
                await task

            def on_error(self, exc: Exception):
                seen.append(type(exc))

        assert await run(self.made(Failing), scope('/quiet'), Peer(CONNECT)) == denial(500, b'"Server error"')
        expected = {
            'disconnect': WebSocketDisconnect,
            'cancelled': asyncio.CancelledError,
            'status': exceptions.HTTPException,
        }[kind]
        assert seen == [expected]
        assert [record.exc_info[0] for record in caplog.records] == [expected]

    async def test_hooks_run_before_components(self):
        """Hooks run first, then components, then the accept is sent."""
        order = []

        class Noting:
            async def on_request(self, ws: WebSocket):
                order.append('hook, %s' % ws.state.value)

        class SessionComponent(Component):
            def resolve(self, ws: WebSocket) -> Session:
                order.append('component, %s' % ws.state.value)

        @websocket_route('/order')
        async def handler(session: Session, ws: WebSocket):
            order.append('handler, %s' % ws.state.value)

        app = self.made(Noting, Noting, routes=collect_routes(handler), components=[SessionComponent()])
        await run(app, scope('/order'), Peer(CONNECT))
        assert order == ['hook, connecting', 'hook, connecting', 'component, connecting', 'handler, open']

    async def test_denial_passes_the_hooks(self):
        """The exception handler and on_response hooks make the denial."""

        class Header:
            def on_response(self, response: http.Response, exc: Exception):
                response.headers['X-Error'] = type(exc).__name__

        class App(ASyncApp):
            def exception_handler(self, exc: Exception) -> http.Response:
                if isinstance(exc, ValueError):
                    return http.JSONResponse({'value': str(exc)}, 418)
                return super().exception_handler(exc)

        class Failing:
            def on_request(self):
                raise ValueError('no')

        app = App(collect_routes(quiet), event_hooks=[Failing, Header])
        assert await run(app, scope('/quiet'), Peer(CONNECT)) == [
            {
                'type': 'websocket.http.response.start',
                'status': 418,
                'headers': [
                    (b'content-length', b'14'),
                    (b'content-type', b'application/json'),
                    (b'x-error', b'ValueError'),
                ],
            },
            {'type': 'websocket.http.response.body', 'body': b'{"value":"no"}'},
        ]
        assert (await run(app, scope('/nope'), Peer(CONNECT)))[0]['headers'][-1] == (b'x-error', b'NotFound')

    async def test_unexpected_exception_denies_with_500(self, caplog):
        """An unexpected exception in a hook is a denial with 500."""
        seen = []

        class Failing:
            def on_request(self):
                raise RuntimeError('password=hunter2')

            def on_error(self, exc: Exception):
                seen.append(type(exc))

        assert await run(self.made(Failing), scope('/quiet'), Peer(CONNECT)) == denial(500, b'"Server error"')
        assert seen == [RuntimeError]
        assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]

    async def test_failing_constructor_denies_with_500(self, caplog):
        """A hook that cannot be constructed is a denial with 500."""

        class Once:
            made = 0

            def __init__(self):
                Once.made += 1
                if Once.made > 2:
                    raise RuntimeError

            def on_request(self):
                """Never run."""

        app = self.made(Once)
        Once.made = 2
        for url in ('/quiet', '/nope'):
            assert await run(app, scope(url), Peer(CONNECT)) == denial(500, b'"Server error"')
        assert len(caplog.records) == 2

    async def test_leaving_during_hooks_is_no_error(self, caplog):
        """A client that leaves while hooks make its denial is not an error."""

        class Slow:
            async def on_response(self, response: http.Response):
                for i in range(5):
                    await asyncio.sleep(0)
                    app.websocket_lifecycle.watches.current().check(float(i))

        app = self.made(Slow)
        await run(app, scope('/nope'), Peer(CONNECT, disconnect(1006)))
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []

    async def test_cancellation_ends_the_denial(self):
        """A cancellation by the server ends a denial in progress."""

        class Slow:
            async def on_response(self):
                made.set()
                await asyncio.sleep(3600)

        made = asyncio.Event()
        peer = Peer(CONNECT)
        task = asyncio.ensure_future(run(self.made(Slow), scope('/nope'), peer))
        await asyncio.wait_for(made.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == []

    async def test_denial_hooks_get_available_values(self):
        """Hooks of a denial get the values that are available."""

        class Cors:
            def on_response(
                self, response: http.Response, origin: http.Header, query: http.QueryString, token: str = 'x'
            ):
                response.headers['X-Seen'] = '%s %s' % (token, query.isascii())

        app = self.made(Cors)
        start = (await run(app, scope('/nope?token=t'), Peer(CONNECT)))[0]
        assert (start['status'], start['headers'][-1][0]) == (404, b'x-seen')

    async def test_failed_on_error_is_logged(self, caplog):
        """on_error hooks run after the accept, too, and their exceptions are logged."""
        seen = []

        class Noting:
            async def on_error(self, exc: Exception, ws: WebSocket):
                seen.append((type(exc), ws.close_code))

        class Failing:
            def on_error(self):
                raise KeyError

        await run(self.made(Failing, Noting), scope('/fails'), Peer(CONNECT))
        assert seen == [(RuntimeError, 1011)]
        assert [record.exc_info[0] for record in caplog.records] == [RuntimeError, KeyError]

    async def test_exception_after_connect_is_a_close(self):
        """An HTTP exception after a hook has connected is a close code."""

        class Connecting:
            async def on_request(self, ws: WebSocket):
                await ws.connect()
                raise exceptions.BadRequest('no')

        assert await run(self.made(Connecting), scope('/quiet'), Peer(CONNECT)) == [ACCEPT, closed(4400, 'no')]

    async def test_connections_leave_nothing_behind(self):
        class Hook:
            def on_request(self, path: http.Path):
                """Be made for each connection."""

            def on_response(self, response: http.Response):
                """Be made for each connection."""

        app = self.made(Hook)

        async def connections(count):
            for i in range(count):
                await run(app, scope('/quiet'), Peer(CONNECT))
                await run(app, scope('/nope/%d' % i), Peer(CONNECT))
            gc.collect()
            return len(app.websocket_lifecycle._injector.resolver_cache), tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            await connections(100)
            rounds = [await connections(100) for _ in range(4)]
        finally:
            tracemalloc.stop()
        assert len({steps for steps, _ in rounds}) == 1
        # What leaks grows in each round; a thread of another test may be at work in one.
        assert min(after - before for (_, before), (_, after) in zip(rounds, rounds[1:])) < 5000


class TestSlowHandshake:
    """A client that leaves while hooks or components take their time."""

    def made(self, release):
        class Slow(Component):
            async def resolve(self) -> Session:
                await release.wait()
                await asyncio.sleep(0.002)

        ran = []

        @websocket_route('/slow')
        async def handler(session: Session, ws: WebSocket):
            ran.append(True)

        return ASyncApp(collect_routes(handler), components=[Slow()]), ran

    @pytest.mark.parametrize('found_by_the_watch', [False, True])
    async def test_departed_client_runs_no_handler(self, found_by_the_watch, caplog):
        """Nothing is sent and the handler does not run."""
        release = asyncio.Event()
        app, ran = self.made(release)
        peer = ImpatientPeer(CONNECT, disconnect(1006))
        serving = asyncio.ensure_future(run(app, scope('/slow'), peer))
        for i in range(10):
            await asyncio.sleep(0)
            if found_by_the_watch:
                app.websocket_lifecycle.watches.current().check(float(i))
        release.set()
        assert await serving == []
        assert (ran, caplog.records) == ([], [])

    async def test_remaining_client_loses_no_message(self):
        """A client that stays is accepted and loses no message."""
        release = asyncio.Event()
        app, ran = self.made(release)
        release.set()
        assert await run(app, scope('/slow'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        assert ran == [True]

    async def test_late_connect_finds_client_gone(self):
        """A handler that connects late finds that its client has left."""

        @websocket_route('/late', connect=False)
        async def late(ws: WebSocket):
            while True:
                await asyncio.sleep(0)
                app.websocket_lifecycle.watches.current().check(asyncio.get_running_loop().time())

        app = ASyncApp(collect_routes(late))
        assert await run(app, scope('/late'), ImpatientPeer(CONNECT, disconnect(1006))) == []
