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
    async def test_hooks_run_in_order_and_end_in_reverse(self, as_instances):
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

    async def test_a_start_that_fails_is_said_and_what_had_started_is_stopped(self, caplog):
        assert await live(made(Cache, Failing, Pool)) == ['startup.failed']
        assert notes == ['cache opened', 'cache closed']
        assert [(record.getMessage(), record.exc_info[0]) for record in caplog.records] == [
            ('tests.serving.test_lifespan.Failing.on_startup failed.', OSError)
        ]

    async def test_a_stop_that_fails_is_said_and_the_others_stop(self, caplog):
        class Broken:
            def on_shutdown(self):
                raise OSError('stuck')

        assert await live(made(Cache, Broken)) == ['startup.complete', 'shutdown.failed']
        assert notes == ['cache opened', 'cache closed']
        assert [record.exc_info[0] for record in caplog.records] == [OSError]

    async def test_a_hook_that_fails_has_its_resources_closed(self):
        class Broken:
            def on_startup(self, session: Session):
                raise OSError('no pool')

        assert await live(made(Broken)) == ['startup.failed']
        assert notes == ['session closed']

    @needs_python(3, 11)
    async def test_a_task_that_a_hook_awaits_and_that_is_cancelled_is_a_failure_and_no_end_of_the_server(self, caplog):
        class Cancelling:
            async def on_startup(self):
                self.task = asyncio.ensure_future(asyncio.sleep(3600))

            async def on_shutdown(self):
                self.task.cancel()
                await self.task

        assert await live(made(Cache, Cancelling)) == ['startup.complete', 'shutdown.failed']
        assert notes == ['cache opened', 'cache closed']
        assert [record.exc_info[0] for record in caplog.records] == [asyncio.CancelledError]

    async def test_the_end_of_the_server_is_no_failure_of_a_hook(self, caplog):
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

    async def test_of_resources_that_fail_all_are_closed(self, caplog):
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


class TestRefusals:
    def test_what_belongs_to_a_request_is_refused(self):
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

    async def test_those_that_come_later_are_refused_when_they_would_run(self, caplog):
        class Wrong:
            def on_startup(self, ws: WebSocket):
                """Not run."""

        app = made()
        app.event_hooks = [Wrong()]
        assert await live(app) == ['startup.failed']
        assert [record.exc_info[0] for record in caplog.records] == [ConfigurationError]


class TestWithoutLifespan:
    async def test_the_first_handshake_starts_and_the_others_wait(self):
        app = made(Pool)
        both = await asyncio.gather(*[run(app, scope('/hello'), Peer(CONNECT)) for _ in range(2)])
        assert both == [[ACCEPT, CLOSE]] * 2
        assert await run(app, scope('/hello'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        assert notes == ['pool opened', 'session closed', 'served', 'served', 'served']

    async def test_a_failure_is_503_and_is_tried_again(self, caplog):
        app = made(Failing())
        sent = await run(app, scope('/hello'), Peer(CONNECT))
        assert (sent[0]['status'], dict(sent[0]['headers'])[b'retry-after']) == (503, b'5')
        assert await run(app, scope('/hello'), Peer(CONNECT)) == [ACCEPT, CLOSE]
        assert notes == ['started', 'served']

    async def test_a_client_that_left_is_not_answered(self, caplog):
        assert await run(made(Failing()), scope('/hello'), Peer(disconnect())) == []

        async def send(message):
            raise OSError('gone')

        await made(Failing())(scope('/hello'), Peer(CONNECT).receive, send)

    async def test_a_start_that_fails_while_nobody_waits_is_tried_again(self, caplog):
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

    async def test_a_client_that_leaves_does_not_keep_the_application_from_starting(self):
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

    def test_a_start_on_an_event_loop_that_is_gone_is_begun_again(self):
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


class TestInTests:
    def test_with_a_test_client_the_application_starts_and_stops(self):
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

    async def test_what_fails_is_raised_in_the_test(self):
        class Broken:
            def on_shutdown(self):
                raise KeyError('stuck')

        with pytest.raises(OSError, match='no pool'):
            async with lifespan(made(Failing())):
                raise AssertionError('It has started.')  # pragma: no cover
        with pytest.raises(KeyError):
            async with lifespan(made(Broken)):
                """Start."""

    def test_a_client_whose_application_fails_to_stop_is_closed_all_the_same(self):
        class Broken:
            def on_shutdown(self):
                raise KeyError('stuck')

        client = TestClient(made(Broken))
        with pytest.raises(KeyError):
            with client:
                """Start."""
        assert client._portal.loop.is_closed()

    async def test_an_application_without_a_lifespan_may_say_so_by_raising(self):
        async def app(scope, receive, send):
            raise RuntimeError('HTTP only')

        async with lifespan(app):
            """Go on."""

    async def test_one_that_does_not_answer_is_not_waited_for(self, monkeypatch):
        async def app(scope, receive, send):
            await asyncio.sleep(3600)

        monkeypatch.setattr('apistar_ws.testing.starting.LIFESPAN_TIMEOUT', 0.01)
        with pytest.raises(AssertionError, match='Waited 0.01 seconds for an answer to lifespan.startup'):
            async with lifespan(app):
                raise AssertionError('It has started.')  # pragma: no cover

    def test_an_application_for_wsgi_has_none(self):
        with TestClient(App([Route('/page', 'GET', page)])) as client:
            assert client.get('/page').text == 'a page'
