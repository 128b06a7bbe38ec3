"""Groups in an application: the component, the close codes, the end; in process and on a real uvicorn."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys

import pytest
from apistar import Route, exceptions
from apistar.exceptions import ConfigurationError

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    GroupsUnavailable,
    WebSocket,
    WebSocketDisconnect,
    collect_routes,
    websocket_route,
)
from apistar_ws.groups.hubs import has_siblings
from apistar_ws.groups.settings import EngineSettings, GroupOptions, GroupSettings, GroupsOptions
from apistar_ws.testing import ConnectionClosed, HandshakeDenied, TestClient, connect, lifespan
from tests.needs import needs_redis
from tests.servers import ROOT


@websocket_route('/rooms/{room}')
async def chat(room: str, ws: WebSocket, groups: Groups, since: str = None):
    async with groups.join('room:' + room, ws, since=since, info={'name': 'ann'}) as group:
        async for text in ws:
            await group.send(text)


@websocket_route('/early/{room}', connect=False)
async def early(room: str, ws: WebSocket, groups: Groups, since: str = None):
    async with groups.join(room, ws, since=since):
        await groups.send(room, 'held')
        await ws.connect()
        await ws.receive()


@websocket_route('/fails')
async def fails(ws: WebSocket):
    raise GroupsUnavailable('The engine is away')


async def announce(room: str, text: str, groups: Groups) -> dict:
    return {'position': await groups.send('room:' + room, text)}


def announce_plainly(room: str, text: str, groups: Groups) -> dict:
    groups.send('room:' + room, text)
    return {}


async def who(room: str, groups: Groups) -> list:
    return [member.info for member in await groups.members('room:' + room)]


async def unavailable() -> dict:
    raise GroupsUnavailable()


@websocket_route('/broken')
async def broken(ws: WebSocket, groups: Groups, how: str = ''):
    async def fail(change):
        raise LookupError('boom')

    async with groups.join('a', ws, on_change=fail):
        if how == 'busy':
            await asyncio.Event().wait()
        elif how == 'failing':
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise ValueError('other')
        await ws.receive()


def app(*components):
    routes = [
        Route('/announce/{room}', 'POST', announce),
        Route('/plainly/{room}', 'POST', announce_plainly),
        Route('/who/{room}', 'GET', who),
        Route('/unavailable', 'GET', unavailable),
    ]
    return ASyncApp(
        routes + collect_routes(chat, early, fails, broken), components=list(components) or [GroupsComponent()]
    )


def test_sockets_and_plain_requests_of_one_client_share_their_groups(engine):
    client = TestClient(app(GroupsComponent(**engine, history=10)))
    with client.websocket_connect('/rooms/a') as one, client.websocket_connect('/rooms/a') as two:
        one.send('hello')
        assert (one.receive(), two.receive()) == ('hello', 'hello')
        assert client.post('/announce/a?text=news').json()['position'].endswith('-2')
        assert two.receive() == 'news'
        assert client.post('/plainly/a?text=plain').status_code == 200
        assert (two.receive(), one.receive()) == ('plain', 'news')
        assert client.get('/who/a').json() == [{'name': 'ann'}, {'name': 'ann'}]
    assert client.get('/who/a').json() == []
    client.close()


async def test_a_lost_position_closes_with_4410_after_the_accept_and_denies_with_410_before_it():
    served = app(GroupsComponent(history=10))
    async with connect(served, '/rooms/a?since=old') as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.receive()
        assert (closed.value.code, closed.value.reason) == (4410, 'The position is lost')
    with pytest.raises(HandshakeDenied) as denied:
        async with connect(served, '/early/a?since=old'):
            """It is not entered."""
    assert denied.value.status == 410


async def test_what_is_sent_before_the_accept_is_held():
    async with connect(app(), '/early/a') as client:
        assert await client.receive() == 'held'


async def test_an_engine_that_is_away_is_503_over_http_and_1013_after_the_accept():
    with TestClient(app()) as client:
        response = client.get('/unavailable')
        assert (response.status_code, response.headers['retry-after']) == (503, '5')
    async with connect(app(), '/fails', raises=False) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.receive()
        assert (closed.value.code, closed.value.reason) == (1013, 'The engine is away')


@pytest.mark.parametrize('how', ['', 'busy'])
async def test_what_a_function_of_a_member_raises_is_raised_in_the_handler_and_the_client_is_told_1011(how, caplog):
    with pytest.raises(LookupError, match='boom'):
        async with connect(app(), '/broken?how=' + how) as client:
            await client.receive()
    caplog.clear()
    async with connect(app(), '/broken?how=' + how, raises=False) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.receive()
        assert (closed.value.code, closed.value.reason) == (1011, 'Internal error')
    assert [record.exc_info[1].args for record in caplog.records] == [('boom',)]


async def test_what_the_handler_raises_itself_comes_before_what_a_function_has_raised(caplog):
    with pytest.raises(ValueError, match='other'):
        async with connect(app(), '/broken?how=failing') as client:
            await client.receive()


async def test_hooks_do_not_change_what_it_is_closed_with():
    class Hook:
        def on_response(self):
            """It only is there."""

    served = ASyncApp(collect_routes(fails), event_hooks=[Hook()])
    async with connect(served, '/fails', raises=False) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.receive()
        assert closed.value.code == 1013


async def test_the_groups_end_with_the_lifespan():
    component = GroupsComponent(history=10)
    served = app(component)
    async with lifespan(served):
        async with connect(served, '/rooms/a') as client:
            await client.send('x')
            await client.receive()
        hub = component.resolve()._hub
    assert component.resolve()._hub is not hub
    await component.on_shutdown()
    await component.on_shutdown()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize(
    'options, text',
    [
        ({'history': -1}, 'GroupsComponent: history=-1 has to be a whole number, 0 for none'),
        ({'history': True}, 'history=True has to be a whole number'),
        ({'history_ttl': 0}, 'history_ttl=0 has to be a number of seconds above 0'),
        ({'presence': 1}, 'presence=1 has to be True or False'),
        ({'max_queue': 0}, 'max_queue=0 has to be a whole number above 0'),
        ({'max_message': 2, 'max_queue_size': 1}, 'max_message=2 has to be no more than max_queue_size'),
        ({'overflow': 'drop'}, "overflow='drop' has to be 'close', 'drop_oldest' or 'drop_newest'"),
        ({'lease': 0}, 'GroupsComponent: lease=0 has to be a number of seconds above 0'),
        ({'publish_timeout': float('inf')}, 'publish_timeout=inf has to be'),
        (
            {'histroy': 1},
            'GroupsComponent does not know the setting histroy .did you mean history..; those of a group are history,',
        ),
        ({'namespaces': {'a:b': {}}}, "The namespace 'a:b' has to be a text without a colon"),
        ({'namespaces': {'a': {'histroy': 1}}}, "The namespace 'a' does not know the setting histroy"),
        (
            {'namespaces': {'a': {'lease': 1}}},
            "The namespace 'a' does not know the setting lease; .* together namespaces, prefix, lease",
        ),
        ({'namespaces': None, 'histroy': 1}, 'GroupsComponent does not know the setting histroy'),
        ({'json': object()}, 'needs the methods'),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, text):
    with pytest.raises(ConfigurationError, match=text):
        GroupsComponent(**options)


async def test_a_script_is_told_of_a_wrong_option_by_the_name_of_what_it_has_called():
    with pytest.raises(ConfigurationError, match=r'^Groups.connect\(\) does not know the setting histroy'):
        async with Groups.connect('redis://localhost', histroy=1):
            """It is not entered."""


def test_the_options_that_an_editor_knows_are_those_there_are():
    assert GroupOptions.__annotations__.keys() == GroupSettings.__dataclass_fields__.keys()
    names = {**GroupSettings.__dataclass_fields__, **EngineSettings.__dataclass_fields__}
    assert GroupsOptions.__annotations__.keys() == names.keys()


def test_without_redis_py_a_url_is_refused_with_what_to_install():
    code = (
        "import sys; sys.modules['redis'] = None\n"
        'import apistar_ws\n'
        "assert not [name for name in sys.modules if name.startswith('apistar_ws.groups')]\n"
        'apistar_ws.GroupsComponent()\n'
        "apistar_ws.GroupsComponent('redis://localhost')\n"
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "needs redis-py: pip install 'apistar-ws[redis]'" in done.stderr


def test_without_redis_py_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'apistar_ws.groups.redis.engine', None)
    with pytest.raises(ConfigurationError, match='needs redis-py: pip install'):
        GroupsComponent('redis://localhost')


@pytest.mark.parametrize(
    'argv, environ, expected',
    [
        (['uvicorn', 'app:app'], {}, False),
        (['uvicorn', '--workers', '1', 'app:app'], {}, False),
        (['uvicorn', '--workers', '4', 'app:app'], {}, True),
        (['uvicorn', '--workers=4', 'app:app'], {}, True),
        (['gunicorn', '-w', '2', 'app:app'], {}, True),
        (['uvicorn', 'app:app'], {'WEB_CONCURRENCY': '3'}, True),
        (['uvicorn', 'app:app'], {'WEB_CONCURRENCY': 'auto'}, False),
    ],
)
def test_workers_are_seen_by_the_command_line_or_the_environment(argv, environ, expected):
    assert has_siblings(argv, environ) is expected


def test_a_second_event_loop_in_memory_is_warned_of(caplog):
    """A room would be split, and nobody would know."""
    component = GroupsComponent()

    async def resolve():
        component.resolve()

    asyncio.run(resolve())
    asyncio.run(resolve())
    assert 'a second one of this process' not in caplog.text

    async def two_loops():
        component.resolve()
        for _ in range(2):
            await asyncio.to_thread(asyncio.run, resolve())

    asyncio.run(two_loops())
    assert caplog.text.count('a second one of this process') == 1


@pytest.mark.parametrize(
    'options, text',
    [
        ({'prefix': 5}, 'prefix=5 has to be a text'),
        ({'prefix': ''}, "prefix='' has to be a text"),
        ({'lease': 0.0004}, 'lease=0.0004 has to be a number of seconds above 0.05'),
        ({'lease': 10.0**10}, 'lease=10000000000.0 has to be'),
        ({'publish_timeout': 0.0001}, 'publish_timeout=0.0001 has to be'),
        ({'history_ttl': 0.0001}, 'history_ttl=0.0001 has to be'),
        ({'history': 10**20}, 'history=100000000000000000000 has to be a whole number'),
        ({'max_message': 2**29, 'max_queue_size': 2**30}, 'no more than 536869888, for Redis'),
    ],
)
def test_settings_that_cannot_work_are_refused(options, text):
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        GroupsComponent(**options)


@needs_redis
@pytest.mark.parametrize('url', ['redis://localhost/name', 'rediss://localhost/1x', 'redis://localhost/1/2'])
def test_a_database_that_is_no_number_is_refused(url):
    with pytest.raises(ConfigurationError, match='has to be a number'):
        GroupsComponent(url)


async def test_a_worker_with_siblings_warns_once(monkeypatch, caplog):
    monkeypatch.setenv('WEB_CONCURRENCY', '2')
    component = GroupsComponent()
    component.resolve()
    await component.on_shutdown()
    component.resolve()
    assert caplog.text.count('is for one process, and this is one of several workers') == 1


async def test_an_engine_is_of_one_process_and_one_loop(monkeypatch):
    component = GroupsComponent()
    hub = component.resolve()._hub
    assert component.resolve()._hub is hub
    other = asyncio.new_event_loop()

    async def resolve():
        return component.resolve()._hub

    found = await asyncio.to_thread(other.run_until_complete, resolve())
    other.close()
    assert found is not hub
    monkeypatch.setattr(os, 'getpid', lambda: -1)
    assert component.resolve()._hub is not hub
    assert list(component._hubs._hubs) == [asyncio.get_running_loop()]


async def test_a_join_that_is_not_entered_is_said_in_the_log(caplog):
    groups = GroupsComponent().resolve()
    groups.join('a', print)
    assert "groups.join('a') was called and never entered" in caplog.text
    caplog.clear()
    with pytest.raises(TypeError, match=r"groups.join\(\) is entered: async with groups.join\('a', ws\)"):
        await groups.join('a', print)
    with pytest.raises(TypeError, match='is entered: async with'):
        with groups.join('a', print):
            """It is not entered."""
    assert caplog.text == ''


def test_groups_without_their_component_say_what_is_missing():
    with pytest.raises(ConfigurationError, match=r'parameter "groups" .* Add GroupsComponent\(\) to components.$'):
        ASyncApp(collect_routes(chat))


def failing_app(handler):
    return ASyncApp(collect_routes(websocket_route('/')(handler)), components=[GroupsComponent()])


async def close_of(handler, **options):
    """Return what the connection is closed with."""
    async with connect(failing_app(handler), '/', raises=False, **options) as client:
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await client.receive()
    return closed.value.code, closed.value.reason


async def test_an_exception_of_http_that_a_function_of_a_member_raises_closes_with_its_code():
    async def handler(ws: WebSocket, groups: Groups):
        async def kick(change):
            raise exceptions.Forbidden('kicked')

        async with groups.join('a', ws, on_change=kick):
            await ws.receive()

    assert await close_of(handler) == (4403, 'kicked')


async def test_a_handler_may_go_on_after_what_a_function_of_a_member_has_raised():
    async def handler(ws: WebSocket, groups: Groups):
        async def fail(change):
            raise LookupError('boom')

        async with groups.join('a', ws):
            try:
                async with groups.join('b', ws, on_change=fail):
                    await ws.receive()
            except LookupError:
                await groups.send('a', 'still a member')
            await ws.receive()

    async with connect(failing_app(handler), '/') as client:
        assert await client.receive() == 'still a member'


async def test_what_a_function_meets_at_the_websocket_of_somebody_else_is_not_taken_for_its_own_end():
    async def handler(ws: WebSocket, groups: Groups):
        async def tell(change):
            raise WebSocketDisconnect(1001)

        async with groups.join('a', ws, on_change=tell):
            await ws.receive()

    with pytest.raises(WebSocketDisconnect):
        async with connect(failing_app(handler), '/') as client:
            await client.receive()


async def test_a_member_in_a_task_of_its_own_is_told_there():
    async def handler(ws: WebSocket, groups: Groups):
        async def fail(change):
            raise LookupError('boom')

        async def member():
            async with groups.join('a', ws, on_change=fail):
                await asyncio.Event().wait()

        task = asyncio.ensure_future(member())
        await asyncio.wait({task})
        await ws.send(repr(task.exception()))

    async with connect(failing_app(handler), '/') as client:
        assert await client.receive() == "LookupError('boom')"


async def test_what_fails_while_the_block_ends_by_itself_is_in_the_log_and_hides_nothing(caplog):
    async def handler(ws: WebSocket, groups: Groups):
        async def fail(change):
            await asyncio.sleep(0.05)
            raise LookupError('boom')

        async with groups.join('a', ws, on_change=fail):
            await asyncio.sleep(0.01)
            raise ValueError('the real one')

    with pytest.raises(ValueError, match='the real one'):
        async with connect(failing_app(handler), '/') as client:
            await client.receive()
    assert [record.exc_info[1].args for record in caplog.records] == [('boom',), ('the real one',)]


async def test_what_fails_where_somebody_else_has_cancelled_is_in_the_log(caplog):
    failed = asyncio.Event()

    async def handler(ws: WebSocket, groups: Groups):
        async def fail(change):
            failed.set()
            raise LookupError('boom')

        async def member():
            async with groups.join('a', ws, on_change=fail):
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0)
                    raise ValueError('other')

        with contextlib.suppress(ValueError):
            await member()

    assert await close_of(handler) == (1000, '')
    assert [record.getMessage() for record in caplog.records] == ["A member of the group 'a' has failed."]
    assert caplog.records[0].exc_info[1].args == ('boom',)
