"""Components that yield: who gets what, and when it is closed."""

import asyncio
import collections.abc
import contextlib
import typing
from typing import AsyncIterator, Generator, Iterator

import anyio
import pytest
from apistar import Route, exceptions, http
from apistar.exceptions import ConfigurationError
from apistar.server.asgi import ASGISend
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route
from apistar_ws.testing import TestClient
from tests.clock import virtual
from tests.conversations import ACCEPT, CLOSE, CONNECT, Peer, closed, disconnect, run, scope, text
from tests.needs import needs_python

notes = []


@pytest.fixture(autouse=True)
def forget():
    notes.clear()


class Pool:
    """What the session stands on."""


class Session:
    """What handlers ask for."""

    def __init__(self, pool):
        self.pool = pool


class PoolComponent(Component):
    async def resolve(self) -> AsyncIterator[Pool]:
        notes.append('pool opened')
        try:
            await asyncio.sleep(0)
            yield Pool()
        except BaseException as exc:
            notes.append('pool rolled back, %s' % type(exc).__name__)
            raise
        finally:
            await asyncio.sleep(0)
            notes.append('pool closed')


class SessionComponent(Component):
    def resolve(self, pool: Pool) -> Iterator[Session]:
        notes.append('session opened')
        try:
            yield Session(pool)
        except BaseException as exc:
            notes.append('session rolled back, %s' % type(exc).__name__)
            raise
        finally:
            notes.append('session closed')


class NotingPeer(Peer):
    async def send(self, message):
        notes.append(message['type'].partition('.')[2])
        await super().send(message)


@websocket_route('/use')
async def use(session: Session, ws: WebSocket):
    assert isinstance(session.pool, Pool)
    async for message in ws:
        if message == 'forbid':
            raise exceptions.Forbidden()
        if message == 'fail':
            raise KeyError(message)
        assert message == 'end'
        break


COMPONENTS = [SessionComponent(), PoolComponent()]
OPENED = ['pool opened', 'session opened', 'accept']


def made(*hooks, components=COMPONENTS, handlers=(use,), routes=()):
    return ASyncApp([*collect_routes(*handlers), *routes], components=components, event_hooks=list(hooks))


class TestOverWebSocket:
    async def test_resources_close_in_reverse_order(self):
        """Resources are closed in reverse order and before the close."""
        await run(made(), scope('/use'), NotingPeer(CONNECT, text('end')))
        assert notes == [*OPENED, 'session closed', 'pool closed', 'close']

    async def test_answered_exception_is_thrown_in(self):
        """An exception with a close code is thrown in before the close."""
        sent = await run(made(), scope('/use'), NotingPeer(CONNECT, text('forbid')))
        assert sent == [ACCEPT, closed(4403, 'Forbidden')]
        assert notes == [
            *OPENED, 'session rolled back, Forbidden', 'session closed', 'pool rolled back, Forbidden', 'pool closed',
            'close',
        ]  # fmt: skip

    async def test_unexpected_exception_is_thrown_in(self):
        """An unexpected exception is thrown in after the close."""
        sent = await run(made(), scope('/use'), NotingPeer(CONNECT, text('fail')))
        assert sent == [ACCEPT, closed(1011, 'Internal error')]
        assert notes == [
            *OPENED, 'close', 'session rolled back, KeyError', 'session closed', 'pool rolled back, KeyError',
            'pool closed',
        ]  # fmt: skip

    async def test_they_are_closed_after_the_hooks(self):
        class Hook:
            def on_response(self, session: Session):
                notes.append('on_response')

        await run(made(Hook), scope('/use'), NotingPeer(CONNECT, disconnect()))
        assert notes == [*OPENED, 'on_response', 'session closed', 'pool closed']

    async def test_resources_close_on_cancellation(self):
        """Resources are closed when the server cancels the handler."""
        peer = NotingPeer(CONNECT)
        task = asyncio.ensure_future(run(made(), scope('/use'), peer))
        while peer.sent != [ACCEPT]:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(notes) == sorted(
            [
                *OPENED, 'close', 'session rolled back, CancelledError', 'session closed',
                'pool rolled back, CancelledError', 'pool closed',
            ]
        )  # fmt: skip

    async def test_resources_close_after_denial(self):
        """Resources are closed when the handshake is denied."""

        class Guard:
            def on_request(self, session: Session):
                raise exceptions.Forbidden()

        sent = await run(made(Guard), scope('/use'), NotingPeer(CONNECT))
        assert sent[0]['status'] == 403
        assert notes == [
            *OPENED[:2], 'session rolled back, Forbidden', 'session closed', 'pool rolled back, Forbidden',
            'pool closed', 'http.response.start', 'http.response.body',
        ]  # fmt: skip

    async def test_failed_commit_is_an_error(self, caplog):
        """A failed commit closes with 1011, and the other resources are closed."""

        class Failing(Component):
            def resolve(self, pool: Pool) -> Generator[Session, None, None]:
                yield Session(pool)
                raise OSError('disk full')

        class Hook:
            def on_response(self):
                notes.append('on_response')

            on_error = on_response

        sent = await run(made(Hook, components=[Failing(), PoolComponent()]), scope('/use'), Peer(CONNECT, text('end')))
        assert sent == [ACCEPT, closed(1011, 'Internal error')]
        assert notes == ['pool opened', 'on_response', 'pool closed']
        assert [(record.getMessage().split('>: ')[1], record.exc_info[0]) for record in caplog.records] == [
            (__name__ + '.TestOverWebSocket.test_failed_commit_is_an_error.'
             '<locals>.Failing.resolve failed.', OSError)
        ]  # fmt: skip

    @pytest.mark.parametrize('message, close', [('forbid', closed(4403, 'Forbidden')), ('end', CLOSE)])
    async def test_swallowing_changes_no_outcome(self, message, close):
        class Swallowing(Component):
            def resolve(self, pool: Pool) -> Iterator[Session]:
                try:
                    yield Session(pool)
                except Exception:
                    """Say nothing."""

        app = made(components=[Swallowing(), PoolComponent()])
        assert await run(app, scope('/use'), Peer(CONNECT, text(message))) == [ACCEPT, close]
        assert ('pool rolled back, Forbidden' in notes) == (message == 'forbid')

    @virtual
    async def test_hanging_resource_blocks_nothing(self, caplog):
        """A resource that hangs blocks neither the client nor the other resources."""

        class Hanging(Component):
            async def resolve(self, pool: Pool) -> AsyncIterator[Session]:
                yield Session(pool)
                await asyncio.sleep(3600)

        loop = asyncio.get_running_loop()
        begun = loop.time()
        peer = Peer(CONNECT, text('end'))
        sent = await run(made(components=[Hanging(), PoolComponent()]), scope('/use'), peer)
        assert sent == [ACCEPT, closed(1011, 'Internal error')]
        assert loop.time() - begun <= 2
        assert notes == ['pool opened', 'pool closed']
        assert [record.exc_info[0] for record in caplog.records] == [TimeoutError]

    async def test_failed_opening_denies_with_500(self):
        """A resource that cannot be opened denies with 500, and the others are closed."""

        class Broken(Component):
            def resolve(self, pool: Pool) -> Iterator[Session]:
                yield Session(1 / 0)

        sent = await run(made(components=[Broken(), PoolComponent()]), scope('/use'), Peer(CONNECT))
        assert sent[0]['status'] == 500
        assert notes == ['pool opened', 'pool rolled back, ZeroDivisionError', 'pool closed']


class TestComponentAnnotations:
    async def test_yielded_type_may_be_annotation(self):
        """The yielded type may be the annotation itself."""

        class Plain(Component):
            def resolve(self) -> Pool:
                yield Pool()

        class Stringly(Component):
            def resolve(self, pool: 'Pool') -> 'Iterator[Session]':
                yield Session(pool)

        app = made(components=[Plain(), Stringly()])
        assert await run(app, scope('/use'), Peer(CONNECT, text('end'))) == [ACCEPT, CLOSE]

    async def test_component_may_choose_its_parameters(self):
        """A component may decide itself which parameters it supplies."""

        class Own(Component):
            def can_handle_parameter(self, parameter):
                return parameter.name == 'session'

            def identity(self, parameter):
                return 'a session'

            def resolve(self):
                yield Session(Pool())
                notes.append('closed')

        app = made(components=[Own()])
        assert await run(app, scope('/use'), Peer(CONNECT, text('end'))) == [ACCEPT, CLOSE]
        assert notes == ['closed']

    def test_missing_annotation_is_refused(self):
        """A component that yields without an annotation is refused."""

        class Silent(Component):
            def resolve(self):
                yield  # pragma: no cover

        with pytest.raises(ConfigurationError, match='Silent.resolve yields and does not say what: annotate it'):
            made(components=[Silent()])

    @pytest.mark.parametrize('annotation', [typing.Generator, typing.Iterator, collections.abc.AsyncIterator])
    def test_bare_annotation_is_refused(self, annotation):
        """An iterator of nothing in particular does not say what the component supplies."""

        class Vague(Component):
            def resolve(self):
                yield  # pragma: no cover

        Vague.resolve.__annotations__['return'] = annotation
        with pytest.raises(ConfigurationError, match='Vague.resolve yields and does not say what: annotate it'):
            made(components=[Vague()])

    def test_unsupplied_argument_is_refused(self):
        """An argument of a component that nothing supplies is refused."""
        with pytest.raises(ConfigurationError, match='No component able to handle parameter "pool" on function "res'):
            made(components=[SessionComponent()])


def show(session: Session, name: http.QueryParam) -> dict:
    if name == 'forbid':
        raise exceptions.Forbidden()
    if name == 'fail':
        raise KeyError(name)
    return {'hello': name}


async def show_async(session: Session) -> dict:
    return {}


class TestOverHTTP:
    @pytest.mark.parametrize(
        'name, status, ended',
        [
            ('ann', 200, ['session closed', 'pool closed']),
            (
                'forbid',
                403,
                ['session rolled back, Forbidden', 'session closed', 'pool rolled back, Forbidden', 'pool closed'],
            ),
        ],
    )
    async def test_resources_close_before_the_response(self, name, status, ended):
        """Resources are closed before the response is sent."""
        peer = NotingPeer()
        request = {**scope('/show', query_string=b'name=' + name.encode()), 'type': 'http', 'method': 'GET'}
        await made(routes=[Route('/show', 'GET', show)])(request, peer.receive, peer.send)
        assert peer.sent[0]['status'] == status
        assert notes == ['pool opened', 'session opened', *ended, 'response.start', 'response.body']
        assert 'apistar_ws.opened' not in request

    def test_an_unexpected_exception_is_thrown_in(self):
        with pytest.raises(KeyError):
            TestClient(made(routes=[Route('/show', 'GET', show)])).get('/show?name=fail')
        assert notes[2:] == [
            'session rolled back, KeyError', 'session closed', 'pool rolled back, KeyError', 'pool closed',
        ]  # fmt: skip

    def test_a_failed_commit_is_no_success(self):
        class Failing(Component):
            def resolve(self, pool: Pool) -> Iterator[Session]:
                yield Session(pool)
                raise exceptions.HTTPException('Conflict', status_code=409)

        app = made(routes=[Route('/show', 'POST', show_async)], components=[Failing(), PoolComponent()])
        assert TestClient(app).post('/show').status_code == 409
        assert notes == ['pool opened', 'pool rolled back, HTTPException', 'pool closed']

    @pytest.mark.parametrize(
        'failure, ends',
        [
            (exceptions.HTTPException('Conflict', status_code=409), ['on_response 200, NoneType']),
            (OSError('disk full'), ['on_response 200, NoneType', 'on_error, OSError']),
        ],
    )
    async def test_failed_commits_run_each_hook_once(self, failure, ends):
        """The hooks have had their turn when the commit fails, on every request."""

        class Failing(Component):
            def resolve(self, pool: Pool) -> Iterator[Session]:
                yield Session(pool)
                raise failure

        app = made(NotingHook, routes=[Route('/show', 'POST', show_async)], components=[Failing(), PoolComponent()])
        for _ in range(2):
            notes.clear()
            peer = Peer()
            await app({**scope('/show'), 'type': 'http', 'method': 'POST'}, peer.receive, peer.send)
            assert peer.sent[0]['status'] == getattr(failure, 'status_code', 500)
            assert [note for note in notes if note.startswith('on_')] == ends
            assert notes.count('pool closed') == 1

    async def test_failed_rollbacks_are_answered(self, caplog):
        """A resource that fails after the handler has failed takes no answer from the client."""

        class Failing(Component):
            def resolve(self, pool: Pool) -> Iterator[Session]:
                try:
                    yield Session(pool)
                except KeyError:
                    raise OSError('disk full')

        app = made(NotingHook, routes=[Route('/show', 'GET', show)], components=[Failing(), PoolComponent()])
        peer = Peer()
        request = {**scope('/show', query_string=b'name=fail'), 'type': 'http', 'method': 'GET'}
        await app(request, peer.receive, peer.send)
        assert peer.sent[0]['status'] == 500
        assert notes == ['pool opened', 'on_error, KeyError', 'pool rolled back, KeyError', 'pool closed']
        assert 'Failing.resolve failed when it was closed.' in caplog.text

    @pytest.mark.parametrize('fails', [False, True])
    def test_standalone_resources_close_afterwards(self, fails, caplog):
        """Resources of a standalone handler are closed after it."""

        async def standalone(session: Session, send: ASGISend):
            await send({'type': 'http.response.start', 'status': 204, 'headers': []})
            await send({'type': 'http.response.body', 'body': b''})

        class Failing(Component):
            def resolve(self, pool: Pool) -> Iterator[Session]:
                yield Session(pool)
                raise OSError('disk full')

        components = [Failing(), PoolComponent()] if fails else COMPONENTS
        app = made(routes=[Route('/show', 'GET', standalone, standalone=True)], components=components)
        assert TestClient(app).get('/show').status_code == 204
        assert notes[-1] == 'pool closed'
        failed = [record.getMessage().split('<locals>.')[1] for record in caplog.records]
        assert failed == (['Failing.resolve failed when it was closed.'] if fails else [])

    async def test_resources_close_on_cancellation(self):
        """Resources are closed when the server cancels the request."""

        async def wait(session: Session):
            notes.append('waits')
            await asyncio.sleep(3600)

        app = made(routes=[Route('/wait', 'GET', wait)])
        request = {**scope('/wait'), 'type': 'http', 'method': 'GET'}
        peer = Peer()
        task = asyncio.ensure_future(app(request, peer.receive, peer.send))
        while 'waits' not in notes:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert notes[3:] == [
            'session rolled back, CancelledError', 'session closed', 'pool rolled back, CancelledError', 'pool closed',
        ]  # fmt: skip

    async def test_second_cancellation_closes_all(self):
        """A second cancellation during the closing leaves no resource open."""

        class Slow(Component):
            async def resolve(self, pool: Pool) -> AsyncIterator[Session]:
                try:
                    yield Session(pool)
                finally:
                    closing.set()
                    await asyncio.sleep(3600)

        async def wait(session: Session):
            waiting.set()
            await asyncio.sleep(3600)

        closing, waiting = asyncio.Event(), asyncio.Event()
        app = made(routes=[Route('/wait', 'GET', wait)], components=[Slow(), PoolComponent()])
        task = asyncio.ensure_future(
            app({**scope('/wait'), 'type': 'http', 'method': 'GET'}, Peer().receive, Peer().send)
        )
        for event in (waiting, closing):
            await asyncio.wait_for(event.wait(), 5)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert notes[-1] == 'pool closed'


class Budget:
    """What a connection has for so long."""


class Tasks:
    """The tasks of a connection."""

    def __init__(self, group):
        self.group = group


class BudgetComponent(Component):
    """Supplies a budget; ``seconds`` and what it does at the end are the test's."""

    def __init__(self, kind):
        self._kind = kind

    async def resolve(self) -> AsyncIterator[Budget]:
        try:
            limit = asyncio.timeout(0.2) if self._kind == 'asyncio' else anyio.fail_after(0.2)
            if self._kind == 'asyncio':
                async with limit:
                    yield Budget()
            else:
                with limit:
                    yield Budget()
        finally:
            notes.append('budget closed')


class TasksComponent(Component):
    def __init__(self, kind):
        self._kind = kind

    async def resolve(self) -> AsyncIterator[Tasks]:
        try:
            if self._kind == 'asyncio':
                async with asyncio.TaskGroup() as group:
                    yield Tasks(group.create_task)
            else:
                async with anyio.create_task_group() as group:
                    yield Tasks(lambda coro: group.start_soon(lambda: coro))
        finally:
            notes.append('tasks closed')


class Swallowing(Component):
    """Makes a normal end of whatever it is closed with."""

    async def resolve(self) -> AsyncIterator[Budget]:
        with contextlib.suppress(BaseException):
            yield Budget()


class NotingHook:
    def on_request(self):
        """Be paired."""

    def on_response(self, response: http.Response, exc: Exception):
        notes.append('on_response %d, %s' % (response.status_code, type(exc).__name__))

    def on_error(self, exc: Exception):
        notes.append('on_error, %s' % type(exc).__name__)


@websocket_route('/budget')
async def spend(budget: Budget, ws: WebSocket):
    await ws.receive()


async def fails():
    await asyncio.sleep(0.1)
    raise KeyError('the task of the group')


@websocket_route('/tasks')
async def with_tasks(tasks: Tasks, ws: WebSocket):
    await ws.receive()
    tasks.group(fails())
    await ws.receive()


@needs_python(3, 11)
@pytest.mark.parametrize('kind', ['asyncio', 'anyio'])
class TestTaskGroupsAndTimeouts:
    """Resources that yield within a task group or a time limit, which cancel the handler by themselves."""

    def app(self, kind, component, hooks=(NotingHook,)):
        parts = self.parts(kind, component)
        return ASyncApp(collect_routes(spend, with_tasks), components=parts, event_hooks=list(hooks))

    def parts(self, kind, component):
        others = [TasksComponent(kind), BudgetComponent(kind)]
        return [component, *[item for item in others if type(item) is not type(component)]]

    async def test_expired_time_limit_is_an_error(self, kind, caplog):
        """An expired time limit is an error."""
        app = self.app(kind, BudgetComponent(kind))
        assert await run(app, scope('/budget'), Peer(CONNECT)) == [ACCEPT, closed(1011, 'Internal error')]
        assert notes == ['budget closed', 'on_error, TimeoutError']
        assert [record.levelname for record in caplog.records] == ['ERROR']
        assert asyncio.current_task().cancelling() == 0

    async def test_failed_task_is_an_error(self, kind, caplog):
        """A failed task is an error."""
        app = self.app(kind, TasksComponent(kind))
        sent = await run(app, scope('/tasks'), Peer(CONNECT, text('fail')))
        assert sent == [ACCEPT, closed(1011, 'Internal error')]
        assert notes == ['tasks closed', 'on_error, ExceptionGroup']
        assert len(caplog.records) == 1

    async def test_departed_client_is_no_error(self, kind, caplog):
        """A client that leaves is not an error."""
        app = self.app(kind, TasksComponent(kind))
        assert await run(app, scope('/tasks'), Peer(CONNECT, disconnect())) == [ACCEPT]
        assert notes == ['on_response 101, WebSocketDisconnect', 'tasks closed']
        assert caplog.records == []

    @pytest.mark.parametrize('component', [TasksComponent, BudgetComponent, lambda kind: Swallowing()])
    async def test_server_cancellation_is_kept(self, kind, component):
        """A cancellation by the server is kept as one."""
        peer = Peer(CONNECT)
        url = '/tasks' if component is TasksComponent else '/budget'
        task = asyncio.ensure_future(run(self.app(kind, component(kind)), scope(url), peer))
        while peer.sent != [ACCEPT]:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.sent == [ACCEPT, closed(1012)]
        assert notes[-1] == 'on_response 101, WebSocketDisconnect'

    async def test_per_message_resources_convert_too(self, kind, caplog):
        """A time limit in a resource of a message is the failure that it becomes."""

        @websocket_listener('/listen', per_message=['budget'])
        async def listen(message: str, budget: Budget) -> str:
            if message == 'slow':
                await asyncio.sleep(60)
            return message

        app = ASyncApp(collect_routes(listen), components=[BudgetComponent(kind)], event_hooks=[NotingHook])
        sent = await run(app, scope('/listen'), Peer(CONNECT, text('a'), text('slow')))
        assert sent == [ACCEPT, {'type': 'websocket.send', 'text': 'a'}, closed(1011, 'Internal error')]
        assert notes == ['budget closed', 'budget closed', 'on_error, TimeoutError']
        assert len(caplog.records) == 1

    async def test_per_message_resources_may_swallow(self, kind):
        """A time limit that only ends the block ends the message without a reply."""

        class Patience(Component):
            async def resolve(self) -> AsyncIterator[Budget]:
                with anyio.move_on_after(0.1):
                    yield Budget()

        @websocket_listener('/listen', per_message=['budget'])
        async def listen(message: str, budget: Budget) -> None:
            if message == 'slow':
                await asyncio.sleep(60)
            heard.append(message)

        heard = []
        app = ASyncApp(collect_routes(listen), components=[Patience()], event_hooks=[NotingHook])
        sent = await run(app, scope('/listen'), Peer(CONNECT, text('slow'), text('a'), disconnect()))
        assert (sent, heard) == ([ACCEPT], ['a'])

    async def test_without_hooks_too(self, kind):
        app = self.app(kind, BudgetComponent(kind), hooks=())
        assert await run(app, scope('/budget'), Peer(CONNECT)) == [ACCEPT, closed(1011, 'Internal error')]


class Troubled(Component):
    """Raises, or hangs, when it is closed."""

    def __init__(self, hangs):
        self._hangs = hangs

    async def resolve(self) -> AsyncIterator[Budget]:
        try:
            yield Budget()
        finally:
            notes.append('closing')
            if self._hangs:
                await asyncio.sleep(3600)
            raise KeyError('disk full')


@pytest.mark.parametrize('hangs', [False, True])
@needs_python(3, 11)
@virtual
async def test_failing_resource_does_not_block_shutdown(hangs, caplog):
    """The server can end a handler whose resource fails or hangs."""
    peer = Peer(CONNECT)
    app = ASyncApp(collect_routes(spend), components=[Troubled(hangs)], event_hooks=[NotingHook])
    task = asyncio.ensure_future(app(scope('/budget'), peer.receive, peer.send))
    while peer.sent != [ACCEPT]:
        await asyncio.sleep(0)
    begun = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - begun < 2
    assert peer.sent == [ACCEPT, closed(1012)]
    assert notes == ['closing', 'on_response 101, WebSocketDisconnect']
    failures = [] if hangs else ['A resource failed when it was closed.']
    assert [record.getMessage() for record in caplog.records] == failures
