"""Starting and stopping: hooks that open and close what an application needs."""

import asyncio
from typing import Iterator

import pytest
from apistar import App, Route, http
from apistar.exceptions import ConfigurationError
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.testing import TestClient, connect, lifespan
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, disconnect, run, scope
from tests.needs import needs_python

notes = []


@pytest.fixture(autouse=True)
def forget():
    notes.clear()


class Settings:
    """What needs no request."""


class SettingsComponent(Component):
    def resolve(self) -> Settings:
        return Settings()


class Session:
    """What is closed after the hook that asks for it."""


class SessionComponent(Component):
    def resolve(self, settings: Settings) -> Iterator[Session]:
        try:
            yield Session()
        finally:
            notes.append('session closed')


class Pool:
    async def on_startup(self, app: App, settings: Settings, session: Session):
        await asyncio.sleep(0)
        self.app = app
        notes.append('pool opened')

    def on_shutdown(self, app: App):
        notes.append('pool closed' if self.app is app else 'another instance')


class Cache:
    def on_startup(self):
        notes.append('cache opened')

    async def on_shutdown(self):
        notes.append('cache closed')


class Closing:
    def on_shutdown(self):
        notes.append('closed')


class Failing:
    times = 1

    def on_startup(self):
        if self.times:
            self.times -= 1
            raise OSError('no pool')
        notes.append('started')


@websocket_route('/hello')
async def hello(ws: WebSocket):
    notes.append('served')


def page() -> str:
    return 'a page'


def made(*hooks):
    routes = [*collect_routes(hello), Route('/page', 'GET', page)]
    return ASyncApp(routes, components=[SettingsComponent(), SessionComponent()], event_hooks=list(hooks))


async def live(app):
    """Return what the application answers to a server that starts it and stops it."""
    peer = Peer({'type': 'lifespan.startup'}, {'type': 'lifespan.shutdown'})
    return [message['type'].partition('.')[2] for message in await run(app, {'type': 'lifespan'}, peer)]


class TestLifespan:
    @pytest.mark.parametrize('as_instances', [False, True])
    async def test_hooks_stop_in_reverse_order(self, as_instances):
        """Hooks start in order and stop in reverse order."""
        hooks = [Pool, Cache, Closing]
        app = made(*[hook() if as_instances else hook for hook in hooks])
        assert await live(app) == ['startup.complete', 'shutdown.complete']
        assert notes == ['pool opened', 'session closed', 'cache opened', 'closed', 'cache closed', 'pool closed']

    async def test_hooks_without_them_are_left_alone(self):
        class Guard:
            def __init__(self):
                raise AssertionError('made for nothing')  # pragma: no cover

            def on_request(self):
                """Guard."""

        app = made()
        app.event_hooks = [Guard]
        assert await live(app) == ['startup.complete', 'shutdown.complete']
        app.event_hooks = None
        assert await live(app) == ['startup.complete', 'shutdown.complete']

    @pytest.mark.parametrize('hooks', [(), (Pool,)])
    async def test_requests_after_the_stop_are_refused(self, hooks):
        """Neither a handshake nor a request starts what the server has stopped; a new start does."""
        app = made(*hooks)
        await live(app)
        stopped = list(notes)
        handshake = await run(app, scope('/hello'), Peer(CONNECT))
        request = await run(app, {**scope('/page'), 'type': 'http', 'method': 'GET'}, Peer())
        for sent in (handshake, request):
            assert (sent[0]['status'], sent[1]['body']) == (503, b'"The application has stopped"')
            assert dict(map(tuple, sent[0]['headers']))[b'retry-after'] == b'5'
        assert notes == stopped
        async with lifespan(app):
            assert await run(app, scope('/hello'), Peer(CONNECT)) == [ACCEPT, CLOSE]

    async def test_requests_during_the_stop_are_refused(self):
        """A request that comes while a hook stops does not start the others again."""
        answers = []

        class Slow:
            async def on_shutdown(self):
                answers.extend(await run(app, scope('/hello'), Peer(CONNECT)))

        app = made(Pool, Slow())
        await live(app)
        assert answers[0]['status'] == 503
        assert notes == ['pool opened', 'session closed', 'pool closed']

    def test_another_event_loop_starts_anew(self):
        """A test after one that has stopped the application has it started by its first request."""
        app = made(Pool)
        with TestClient(app):
            """Start and stop."""
        assert TestClient(app).get('/page').status_code == 200
        assert notes == ['pool opened', 'session closed', 'pool closed', 'pool opened', 'session closed']

    async def test_failed_start_stops_the_started(self, caplog):
        """A failed start is logged, and the hooks that had started are stopped."""
        assert await live(made(Cache, Failing, Pool)) == ['startup.failed']
        assert notes == ['cache opened', 'cache closed']
        assert [(record.getMessage(), record.exc_info[0]) for record in caplog.records] == [
            ('tests.serving.test_lifespan.Failing.on_startup failed.', OSError)
        ]

    async def test_failed_stop_is_logged(self, caplog):
        """A failed stop is logged, and the other hooks stop."""

        class Broken:
            def on_shutdown(self):
                raise OSError('stuck')

        assert await live(made(Cache, Broken)) == ['startup.complete', 'shutdown.failed']
        assert notes == ['cache opened', 'cache closed']
        assert [record.exc_info[0] for record in caplog.records] == [OSError]

    async def test_failed_hook_closes_its_resources(self):
        """The resources of a hook that fails are closed."""

        class Broken:
            def on_startup(self, session: Session):
                raise OSError('no pool')

        assert await live(made(Broken)) == ['startup.failed']
        assert notes == ['session closed']

    @needs_python(3, 11)
    async def test_cancelled_task_is_a_failure(self, caplog):
        """A hook fails if a task that it awaits is cancelled, and the server continues."""

        class Cancelling:
            async def on_startup(self):
                self.task = asyncio.ensure_future(asyncio.sleep(3600))

            async def on_shutdown(self):
                self.task.cancel()
                await self.task

        assert await live(made(Cache, Cancelling)) == ['startup.complete', 'shutdown.failed']
        assert notes == ['cache opened', 'cache closed']
        assert [record.exc_info[0] for record in caplog.records] == [asyncio.CancelledError]

    async def test_server_end_is_no_failure(self, caplog):
        """The end of the server is not a failure of a hook."""

        class Waiting:
            async def on_startup(self):
                begun.set()
                await asyncio.sleep(3600)

        begun = asyncio.Event()
        task = asyncio.ensure_future(live(made(Cache, Waiting)))
        await asyncio.wait_for(begun.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (notes, caplog.records) == (['cache opened', 'cache closed'], [])

    async def test_all_failing_resources_are_closed(self, caplog):
        """All resources are closed although one of them fails."""

        class Broken(Component):
            def resolve(self, session: Session) -> Iterator[Settings]:
                yield Settings()
                raise OSError('no disk')

        class Asking:
            def on_startup(self, settings: Settings):
                """Ask."""

        class Plain(Component):
            def resolve(self) -> Iterator[Session]:
                try:
                    yield Session()
                finally:
                    notes.append('session closed')

        app = ASyncApp([], components=[Broken(), Plain()], event_hooks=[Asking])
        assert await live(app) == ['startup.failed']
        assert notes == ['session closed']


class TestRefusedHooks:
    def test_request_arguments_are_refused(self):
        """A hook that asks for something of a request is refused."""

        class Wrong:
            def on_startup(self, user_agent: http.Header):
                """Not run."""

        with pytest.raises(ConfigurationError, match=r'Wrong.on_startup runs without a request.* "scope" on function'):
            made(Wrong)

    def test_a_generator_is_refused(self):
        class Wrong:
            def on_shutdown(self):
                yield  # pragma: no cover

        with pytest.raises(ConfigurationError, match='Wrong.on_shutdown is a generator'):
            made(Wrong)

    async def test_late_hooks_are_refused_later(self, caplog):
        """Wrong hooks that are added later are refused when they would run."""

        class Wrong:
            def on_startup(self, ws: WebSocket):
                """Not run."""

        app = made()
        app.event_hooks = [Wrong()]
        assert await live(app) == ['startup.failed']
        assert [record.exc_info[0] for record in caplog.records] == [ConfigurationError]


class TestWithoutLifespan:
    async def test_first_handshake_starts_the_application(self):
        """The first handshake starts the application, and the others wait."""
        app = made(Pool)
        both = await asyncio.gather(*[run(app, scope('/hello'), Peer(CONNECT)) for _ in range(2)])
        assert both == [[ACCEPT, CLOSE]] * 2
        assert await run(app, scope('/hello'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        assert notes == ['pool opened', 'session closed', 'served', 'served', 'served']

    async def test_failed_start_is_retried(self, caplog):
        """A failed start is answered with 503 and retried."""
        app = made(Failing())
        sent = await run(app, scope('/hello'), Peer(CONNECT))
        assert (sent[0]['status'], dict(sent[0]['headers'])[b'retry-after']) == (503, b'5')
        assert await run(app, scope('/hello'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        assert notes == ['started', 'served']

    async def test_departed_client_is_not_answered(self, caplog):
        """A client that left is not answered."""
        assert await run(made(Failing()), scope('/hello'), Peer(disconnect())) == []

        async def send(message):
            raise OSError('gone')

        await made(Failing())(scope('/hello'), Peer(CONNECT).receive, send)

    async def test_unobserved_failure_is_retried(self, caplog):
        """A start that fails after its client has left is retried."""

        class Slow:
            times = 0

            async def on_startup(self):
                begun.set()
                await asyncio.sleep(0.01)
                self.times += 1
                if self.times == 1:
                    raise OSError('no pool')

        app = made(Slow())
        begun = asyncio.Event()
        first = asyncio.ensure_future(run(app, scope('/hello'), Peer(CONNECT)))
        await asyncio.wait_for(begun.wait(), 5)
        first.cancel()
        await asyncio.wait({first, app._startup._starting})
        assert await run(app, scope('/hello'), Peer(CONNECT)) == [ACCEPT, CLOSE]

    def test_the_first_request_starts_too(self, caplog):
        client = TestClient(made(Failing()))
        answer = client.get('/page')
        assert (answer.status_code, answer.json()) == (503, 'The application has not started')
        assert client.get('/page').text == 'a page'
        assert notes == ['started']

    async def test_departed_client_stops_no_start(self):
        """A client that leaves does not keep the application from starting."""

        class Slow:
            async def on_startup(self):
                notes.append('begun')
                await asyncio.sleep(0.05)
                notes.append('started')

        app = made(Slow)
        first = asyncio.ensure_future(run(app, scope('/hello'), Peer(CONNECT)))
        while 'begun' not in notes:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        assert await run(app, scope('/hello'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        assert notes == ['begun', 'started', 'served']

    def test_start_on_closed_loop_is_repeated(self):
        """A start on an event loop that was closed is repeated."""

        class Slow:
            async def on_startup(self):
                notes.append('begun')
                await asyncio.sleep(0)

        async def first_turns():
            asyncio.ensure_future(run(app, scope('/hello'), Peer(CONNECT)))
            while 'begun' not in notes:
                await asyncio.sleep(0)

        app = made(Slow)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(first_turns())
        assert TestClient(app).get('/page').text == 'a page'
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


class TestTestingLifespan:
    def test_client_starts_and_stops_application(self):
        """A test client starts and stops the application."""
        with TestClient(made(Pool)) as client:
            assert client.get('/page').text == 'a page'
            with client.websocket_connect('/hello'):
                """Be served."""
        assert notes == ['pool opened', 'session closed', 'served', 'pool closed']

    async def test_its_async_twin_does_so_too(self):
        app = made(Pool)
        async with lifespan(app):
            async with connect(app, '/hello'):
                """Be served."""
        assert notes == ['pool opened', 'session closed', 'served', 'pool closed']

    async def test_failures_are_raised_in_the_test(self):
        """Failures of hooks are raised in the test."""

        class Broken:
            def on_shutdown(self):
                raise KeyError('stuck')

        with pytest.raises(OSError, match='no pool'):
            async with lifespan(made(Failing())):
                raise AssertionError('It has started.')  # pragma: no cover
        with pytest.raises(KeyError):
            async with lifespan(made(Broken)):
                """Start."""

    def test_failed_stop_closes_the_client(self):
        """A client is closed although its application fails to stop."""

        class Broken:
            def on_shutdown(self):
                raise KeyError('stuck')

        client = TestClient(made(Broken))
        with pytest.raises(KeyError):
            with client:
                """Start."""
        assert client._portal.loop.is_closed()

    async def test_application_may_refuse_lifespan(self):
        """An application without a lifespan may raise an exception."""

        async def app(scope, receive, send):
            raise RuntimeError('HTTP only')

        async with lifespan(app):
            """Go on."""

    async def test_silent_application_is_not_awaited(self, monkeypatch):
        """An application that does not answer is not awaited forever."""

        async def app(scope, receive, send):
            await asyncio.sleep(3600)

        monkeypatch.setattr('apistar_ws.testing.starting.LIFESPAN_TIMEOUT', 0.01)
        with pytest.raises(AssertionError, match='Waited 0.01 seconds for an answer to lifespan.startup'):
            async with lifespan(app):
                raise AssertionError('It has started.')  # pragma: no cover

    def test_an_application_for_wsgi_has_none(self):
        with TestClient(App([Route('/page', 'GET', page)])) as client:
            assert client.get('/page').text == 'a page'
