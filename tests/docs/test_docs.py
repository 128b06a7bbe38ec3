"""The documentation: every example does what its page says, and every page builds."""

import importlib.util
import inspect
import re
import subprocess
import sys
import time
from pathlib import Path

import jwt
import orjson
import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import apistar_ws.testing
from apistar_ws import Groups, Settings
from apistar_ws.settings import SETTING_NAMES
from apistar_ws.testing import ConnectionClosed, HandshakeDenied, TasksLeft, TestClient, WaitTimeout, connect
from tests.groups.members import Inbox
from tests.needs import needs_redis, needs_starlette
from tests.servers import PATIENCE, ROOT

DOCS = ROOT / 'docs'
EXAMPLES = DOCS / 'examples'
#: Seconds that each wait of a test client may take; far more than it takes.
TIMEOUT = 5.0
#: Seconds after which a test that waits for what never comes is taken to hang.
HANGS_AFTER = 3.0
#: Who says what is on the troubleshooting page, beside the package itself.
SAID_BY = ('apistar', 'uvicorn', '_pytest')
SAID_ELSEWHERE = (
    "'WebSocket' object has no attribute",
    'object is not iterable',
    'was never awaited',
    'Skipping analyzing "apistar"',
)
PUBLIC_IN_TESTING = apistar_ws.testing.__all__


def load(name):
    """Return an example as a module of its own, fresh."""
    spec = importlib.util.spec_from_file_location('docs_example_%s' % name, EXAMPLES / ('%s.py' % name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_python(*arguments, **options):
    """Run Python in a process of its own, to its end."""
    command = [sys.executable, '-W', 'ignore', *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE, **options)


def page(name):
    return (DOCS / ('%s.rst' % name)).read_text(encoding='utf-8')


@pytest.fixture
def client(request):
    """A client of the example that the test names by ``use``."""
    app = load(request.param).app
    client = TestClient(app, timeout=TIMEOUT)
    client.app = app
    yield client
    client.close()


def use(name):
    return pytest.mark.parametrize('client', [name], indirect=True, ids=[name])


def received(client, url, *messages, **options):
    """Return what the application answers to ``messages``."""
    with client.websocket_connect(url, **options) as ws:
        for message in messages:
            ws.send(message)
        return ws.receive()


def denied(client, url, **options):
    """Return status and body of a denial."""
    with pytest.raises(HandshakeDenied) as info:
        with client.websocket_connect(url, **options):
            """Not get here."""
    return info.value.status, info.value.json()


def closed(client, url, *messages, **options):
    """Return code and reason of the close that the application answers ``messages`` with."""
    with client.websocket_connect(url, **options) as ws:
        for message in messages:
            ws.send(message)
        with pytest.raises(ConnectionClosed) as info:
            ws.receive()
    return info.value.code, info.value.reason


class TestQuickstart:
    @use('quickstart')
    def test_page_and_chat_are_served(self, client):
        """The quickstart serves its page and the chat."""
        response = client.get('/')
        assert response.headers['content-type'].startswith('text/html')
        assert "+ 'chat/kitchen'" in response.text
        assert received(client, '/chat/kitchen', 'hello') == 'kitchen: hello'


class TestDecorating:
    @use('decorating')
    def test_several_decorators_make_several_routes(self, client):
        assert received(client, '/rooms/a', 'hello') == received(client, '/channels/a', 'hello') == 'a: hello'
        assert client.app.reverse_url('chat', room='a') == '/rooms/a'
        assert client.app.reverse_url('channel', room='a') == '/channels/a'

    @use('decorating')
    def test_route_has_name_and_settings(self, client):
        """A route has the name and the settings of its decorator."""
        assert client.app.reverse_url('clock') == '/clock'
        assert received(client, '/clock') == '12:00'

    @use('decorating')
    def test_handler_may_connect_or_refuse(self, client):
        """A handler may connect itself or refuse the handshake."""
        with client.websocket_connect('/table', subprotocols=['xml', 'csv']) as ws:
            assert (ws.subprotocol, ws.headers['x-columns'], ws.receive()) == ('csv', 'name,age', 'Ada,36')
        assert denied(client, '/table') == (400, 'Speak csv')

    @use('decorating')
    def test_methods_are_called_on_their_object(self, client):
        assert [received(client, '/count') for _ in range(2)] == ['1', '2']

    async def test_handler_can_be_unit_tested(self):
        """A handler can be called in a unit test."""

        class Fake:
            sent = []

            async def __aiter__(self):
                yield 'hello'

            async def send(self, data):
                self.sent.append(data)

        await load('decorating').chat(room='x', ws=Fake())
        assert Fake.sent == ['x: hello']


class TestMixing:
    @use('mixing')
    def test_one_path_serves_both(self, client):
        """One path serves HTTP and a WebSocket."""
        assert client.get('/news').text == 'Read the news.'
        assert received(client, '/news') == 'It rains.'

    @use('mixing')
    def test_include_gives_names_and_prefixes(self, client):
        """Names and URLs have the prefix of the include."""
        assert client.get('/where').json() == {'chat': '/api/rooms/kitchen', 'news': '/news'}
        assert received(client, '/api/rooms/kitchen') == 'kitchen'

    @use('mixing')
    def test_plain_http_gets_426(self, client):
        """Plain HTTP on the path of a WebSocket is answered with 426."""
        response = client.get('/api/rooms/kitchen')
        assert (response.status_code, response.json()) == (
            426,
            'Upgrade to WebSocket required, on an ASGI server such as uvicorn',
        )
        assert response.headers['upgrade'] == 'websocket'
        assert denied(client, '/where') == (404, 'Not found')

    @use('mixing')
    def test_websockets_are_in_no_schema(self, client):
        assert sorted(client.get('/schema/').json()['paths']) == ['/news', '/where']

    def test_modules_mappings_and_objects_are_collected(self):
        module = load('decorating')
        urls = ['/clock', '/rooms/{room}', '/channels/{room}', '/table']
        assert [route.url for route in apistar_ws.collect_routes(module)] == urls
        assert [route.url for route in apistar_ws.collect_routes(vars(module))] == urls
        assert [route.url for route in apistar_ws.collect_routes(module.Counter(), module.chat)] == [
            '/count',
            *urls[1:3],
        ]


class TestArguments:
    @use('arguments')
    def test_path_and_query_are_converted(self, client):
        """Path and query parameters are converted and checked."""
        with client.websocket_connect('/books/emma/pages/7?size=3') as ws:
            assert ws.receive_json() == {'book': 'emma', 'number': 7, 'size': 3, 'mark': None}
        assert denied(client, '/books/emma/pages/seven') == (404, 'Not found')
        assert denied(client, '/books/emma/pages/7?size=big') == (400, {'size': 'Must be a number.'})

    @use('arguments')
    def test_whole_paths_and_headers_are_available(self, client):
        """A handler may take the rest of a path and a header."""
        with client.websocket_connect('/files/a/b.txt', headers={'User-Agent': 'me'}) as ws:
            assert ws.receive_json() == {'path': 'a/b.txt', 'user_agent': 'me'}

    @use('arguments')
    def test_a_component_supplies_or_refuses(self, client):
        assert received(client, '/shelf?name=Ada') == 'Ada'
        assert denied(client, '/shelf') == (400, 'Who are you?')


class TestHooks:
    GUEST = {'Authorization': 'Bearer letmein'}

    @use('hooks')
    def test_guard_refuses_before_the_accept(self, client):
        """A guard refuses the handshake before the accept, and on_response runs."""
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/hello'):
                """Not get here."""
        assert (info.value.status, info.value.headers['x-served-by']) == (403, 'kitchen')

    @use('hooks')
    def test_guard_needs_route_and_origin(self, client):
        """No guard runs for a path without a route or for a foreign origin."""
        assert denied(client, '/nowhere') == (404, 'Not found')
        assert denied(client, '/hello', headers={'Origin': 'https://evil.example'}) == (403, 'Origin not allowed')

    @use('hooks')
    def test_response_headers_are_for_denials(self, client):
        """Headers of the response are sent with denials, not with the accept."""
        with client.websocket_connect('/hello', headers=self.GUEST) as ws:
            assert 'x-served-by' not in ws.headers
            assert ws.receive() == 'hello'

    async def test_on_error_runs_for_unexpected_errors(self):
        """on_error runs for exceptions that nothing handles."""
        module = load('hooks')
        with pytest.raises(RuntimeError, match='out of eggs'):
            async with connect(module.app, '/broken', headers=self.GUEST, timeout=TIMEOUT) as ws:
                await ws.receive()
        assert module.failures == [("RuntimeError('out of eggs')", 1011)]


class TestResources:
    def test_hooks_start_and_resources_close(self):
        """Hooks start and stop with the application, and resources are closed."""
        module = load('resources')
        events = module.events
        with TestClient(module.app, timeout=TIMEOUT) as started:
            assert events == ['pool opened']
            assert received(started, '/news') == 'the news'
            assert received(started, '/orders', 'tea') == '{"ordered":"tea"}'
            assert closed(started, '/orders', 'coal') == (4404, 'We have no coal')
            assert started.get('/orders').json() == []
        assert events == [
            'pool opened', 'subscribed', 'unsubscribed', 'committed', 'rolled back', 'committed', 'pool closed',
        ]  # fmt: skip


class TestChannel:
    @use('channel')
    def test_handler_ends_with_close_code(self, client):
        """The end of a handler becomes a close code."""
        assert received(client, '/greet', 'Ada') == 'hello, Ada'
        assert closed(client, '/greet', 'nobody') == (4404, 'No such person')
        assert closed(client, '/greet', 'enough') == (1001, 'The kitchen is closed')
        assert closed(client, '/greet', b'bytes') == (1003, 'Expected text, got bytes')

    async def test_handler_sees_the_disconnect(self):
        """A handler sees the code and the reason of the client's close."""
        module = load('channel')
        async with connect(module.app, '/add', timeout=TIMEOUT) as ws:
            await ws.send('1')
            await ws.send('2')
            await ws.close(4000, 'done')
        async with connect(module.app, '/ask', timeout=TIMEOUT) as ws:
            assert await ws.receive() == 'Are you there?'
        assert module.ends == [(3, 4000, 'done', 'disconnected'), (1000, '')]


class TestLeaving:
    async def test_departed_client_cancels_the_handler(self):
        """A handler is cancelled when its client leaves."""
        module = load('leaving')
        async with connect(module.app, '/ticks', timeout=TIMEOUT) as ws:
            assert await ws.receive() == 'begun'
        assert module.events == ['cleaned up']

    async def test_handler_may_opt_out(self):
        """A handler that opted out continues and reads the remaining messages."""
        module = load('leaving')
        async with connect(module.app, '/orders', timeout=TIMEOUT) as ws:
            assert await ws.receive() == 'cooking'
            await ws.send('more salt')
        assert module.events == ['more salt', 'served']


class TestRecipes:
    @use('background')
    def test_background_task_runs_with_application(self, client):
        """A background task runs while the application runs."""
        with client, client.websocket_connect('/clock') as ws:
            assert ws.receive_json()['now'] > time.time() - 60

    def token(self, expires_at):
        return 'token.' + jwt.encode({'sub': 'Ada', 'exp': expires_at}, load('jwt_auth').KEY, algorithm='HS256')

    @use('jwt_auth')
    def test_a_token_counts_until_it_expires(self, client):
        soon = time.time() + 2
        with client.websocket_connect('/inbox', subprotocols=['chat', self.token(soon)]) as ws:
            assert (ws.subprotocol, ws.receive()) == ('chat', 'hello, Ada')
            with pytest.raises(ConnectionClosed, match='closed the connection with 4401'):
                ws.receive()

    @use('jwt_auth')
    def test_invalid_token_is_denied(self, client):
        """A handshake without a valid token is denied."""
        for offered, text in [
            (['chat'], 'A token is missing'),
            (['chat', self.token(time.time() - 1)], 'The token is not valid'),
            (['chat', 'token.a.b'], 'The token is not valid'),
        ]:
            assert denied(client, '/inbox', subprotocols=offered) == (403, text)

    def test_the_tests_of_the_auction_pass(self):
        done = run_python('-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_auction.py', cwd=EXAMPLES)
        assert '6 passed' in done.stdout, done.stdout

    def test_troubleshooting_quotes_real_messages(self):
        """The messages on the troubleshooting page occur in the source code."""
        packages = [ROOT / 'apistar_ws', *(Path(importlib.util.find_spec(name).origin).parent for name in SAID_BY)]
        said = ''.join(path.read_text(encoding='utf-8') for package in packages for path in package.rglob('*.py'))
        said = re.sub(r"'\n\s+'", '', said)
        phrases = re.findall(r'^``(.+?)``', page('troubleshooting'), re.MULTILINE)
        phrases = [phrase for phrase in phrases if not phrase.startswith('KeyError')]
        assert len(phrases) > 15
        for phrase in phrases:
            assert re.sub(r'Waited 2 seconds', 'Waited %g seconds', phrase) in said or phrase in SAID_ELSEWHERE, phrase


class TestGroups:
    @use('rooms')
    def test_room_has_messages_people_and_history(self, client):
        """A room has messages, a list of people and a history."""
        with client.websocket_connect('/rooms/lobby?name=Ann') as ann, client.websocket_connect('/rooms/lobby') as bob:
            start = ann.receive_json()
            assert bob.receive_json() == start and start['position'].endswith('-0')
            ann.send('hello')
            assert bob.receive_json() == {'name': 'Ann', 'text': 'hello', 'position': start['position'][:-1] + '1'}
            assert ann.receive_json()['text'] == 'hello'
            position = client.post('/rooms/lobby/notes', json={'text': 'news'}).json()['position']
            assert bob.receive_json() == {'text': 'news', 'position': position}
            assert sorted(client.get('/rooms/lobby/people').json()) == ['Ann', 'somebody']
        with client.websocket_connect('/rooms/lobby?since=' + start['position']) as ann:
            assert [ann.receive_json().get('text') for _ in range(3)] == ['hello', 'news', None]
        assert client.get('/rooms/lobby/last').json() == ['{"name":"Ann","text":"hello"}', '{"text":"news"}']

    @use('tabs')
    def test_all_tabs_of_a_person_receive(self, client):
        """All tabs of one person receive a message."""
        headers = {'Authorization': 'Bearer ann'}
        with client.websocket_connect('/inbox', headers=headers) as one:
            with client.websocket_connect('/inbox', headers=headers) as two:
                client.post('/notify/ann?text=hello')
                assert one.receive_json() == two.receive_json() == {'text': 'hello'}
        assert denied(client, '/inbox')[0] == 403

    @use('filtering')
    def test_function_filters_messages(self, client):
        """A function chooses which messages a member receives."""
        with client.websocket_connect('/prices?above=10') as ws:
            for price in ('5', '20'):
                ws.send(price)
            assert ws.receive_json() == {'price': 20}

    @use('filtering')
    def test_members_see_joins_and_leaves(self, client):
        """A member is notified of those who join and leave."""
        with client.websocket_connect('/rooms/a/people?name=Ann') as ann:
            assert ann.receive_json() == {'here': ['Ann']}
            with client.websocket_connect('/rooms/a/people?name=Bob') as bob:
                assert bob.receive_json() == {'here': ['Ann', 'Bob']}
                assert ann.receive_json() == {'joined': ['Bob'], 'left': []}
            assert ann.receive_json() == {'joined': [], 'left': ['Bob']}

    @needs_redis
    async def test_a_script_reaches_a_room(self, shared_redis):
        module = load('announce')
        settings = {'history': 100, 'history_ttl': 3600}
        async with Groups.connect(shared_redis.url, namespaces={'room': settings}) as groups:
            inbox = Inbox()
            async with groups.join('room:lobby', inbox):
                await module.main(shared_redis.url, 'We close in ten minutes.')
                await inbox.until('{"name":"the management","text":"We close in ten minutes."}')


class TestMessages:
    @use('messages')
    def test_types_in_list_are_distinguished(self, client):
        """The types of a list are distinguished by their type field."""
        with client.websocket_connect('/room') as ws:
            ws.send_json({'type': 'join', 'name': 'Ada'})
            assert ws.receive_json() == {'who': 'Ada', 'what': 'joined'}
            ws.send_json({'type': 'say', 'text': 'hello'})
            assert ws.receive_json() == {'who': 'Ada', 'what': 'hello'}

    @use('messages')
    def test_one_message_may_have_a_type(self, client):
        with client.websocket_connect('/login') as ws:
            ws.send_json({'type': 'join', 'name': 'Ada'})
            assert ws.receive_json() == {'who': 'Ada', 'what': 'logged in'}
            assert ws.receive_json() == {'rooms': ['kitchen', 'hall']}
        assert closed(client, '/login', '{"name": "Ada"}') == (1007, 'Invalid message: type')

    @use('invalid')
    def test_an_invalid_message_closes(self, client):
        assert received(client, '/close', '{"item": "tea", "count": 2}') == '2 x tea'
        assert closed(client, '/close', '{"item": "tea", "count": 0}') == (1007, 'Invalid message: count')
        assert closed(client, '/close', 'tea') == (1007, 'Malformed JSON')

    @use('invalid')
    def test_an_invalid_message_is_replied_to(self, client):
        with client.websocket_connect('/reply') as ws:
            ws.send_json({'item': 'tea', 'count': 0})
            assert ws.receive_json() == {'error': {'count': 'Must be greater than or equal to 1.'}}
            ws.send('tea')
            assert ws.receive_json() == {'error': 'Malformed JSON. Expecting value: line 1 column 1 (char 0)'}
            ws.send_json({'item': 'tea', 'count': 2})
            assert ws.receive() == '2 x tea'

    @use('invalid')
    def test_invalid_message_calls_a_function(self, client):
        """An invalid message is passed to a function."""
        with client.websocket_connect('/function') as ws:
            for mistake in (1, 2):
                ws.send_json({'item': 'tea'})
                assert ws.receive_json() == {
                    'mistake': mistake,
                    'detail': {'count': 'The "count" field is required.'},
                }
            ws.send_json({'item': 'tea'})
            with pytest.raises(ConnectionClosed) as info:
                ws.receive()
        assert (info.value.code, info.value.reason) == (1007, 'Invalid message: count')

    @use('codec')
    def test_the_codec_is_replaced(self, client):
        assert received(client, '/double', '[1, 2]') == orjson.dumps([2, 4]).decode()

    @use('listener')
    def test_listener_gets_each_message(self, client):
        """A listener is called with each message."""
        with client.websocket_connect('/shops/tea/orders') as ws:
            for count in (1, 2):
                ws.send_json({'item': 'tea', 'count': count})
                assert ws.receive_json() == {'total': 3 * count}
        assert received(client, '/upper', 'hello') == 'HELLO'
        assert closed(client, '/upper', 'bye') == (1000, 'bye')


class TestStream:
    def test_stream_stops_with_its_client(self):
        """A client gets the yielded messages until it leaves."""
        module = load('stream')
        client = TestClient(module.app, timeout=TIMEOUT)
        with client.websocket_connect('/ticks/5') as ws:
            assert [ws.receive_json() for _ in range(3)] == [{'count': 5}, {'count': 6}, {'count': 7}]
        # coverage loses track of this frame where a generator below it is closed.
        assert module.events == ['stopped']  # pragma: no cover
        client.close()  # pragma: no cover


class TestSecurity:
    @pytest.mark.parametrize(
        'url, origin, allowed',
        [
            ('/account', 'https://example.com', True),
            ('/account', 'http://testserver', False),
            ('/account', None, True),
            ('/partners', 'http://testserver', True),
            ('/partners', 'https://shop.example.com', True),
            ('/partners', 'http://localhost:3000', True),
            ('/partners', 'https://example.com', False),
            ('/partners', 'http://shop.example.com', False),
            ('/weather', 'null', True),
        ],
    )
    @use('origins')
    def test_origins_are_checked(self, client, url, origin, allowed):
        headers = origin and {'Origin': origin}
        if allowed:
            assert received(client, url, headers=headers).startswith('for ')
        else:
            assert denied(client, url, headers=headers) == (403, 'Origin not allowed')

    def test_a_cookie_logs_in(self):
        module = load('cookie_auth')
        client = TestClient(module.app, scheme='https', timeout=TIMEOUT)
        assert denied(client, '/inbox') == (403, 'Log in first')
        assert client.post('/login').json() == 'Welcome'
        assert received(client, '/inbox') == 'hello, Ada'
        assert denied(client, '/inbox', headers={'Origin': 'https://evil.example'}) == (403, 'Origin not allowed')
        client.close()

    def expiring(self):
        """Return a client whose token expires soon, and may be renewed."""
        module = load('expiry')
        module.tokens['Bearer long'] = {'sub': 'Ada', 'exp': time.time() + 3600}
        module.tokens['Bearer brief']['exp'] = time.time() + 0.5
        client = TestClient(module.app, timeout=TIMEOUT)
        client.headers['Authorization'] = 'Bearer brief'
        return client

    def test_renewed_token_keeps_the_connection(self):
        """A renewed token keeps the connection open."""
        client = self.expiring()
        with client.websocket_connect('/inbox', timeout=1.2) as ws:
            ws.send('long')
            assert ws.receive() == 'renewed'
            with pytest.raises(AssertionError, match='Waited'):
                ws.receive()
        client.close()

    def test_a_token_that_expires_closes(self):
        client = self.expiring()
        assert denied(client, '/inbox', headers={'Authorization': 'Bearer no'}) == (403, 'Forbidden')
        assert closed(client, '/inbox') == (4401, 'Expired')

    @use('header_auth')
    def test_a_header_logs_in(self, client):
        with pytest.raises(HandshakeDenied) as info:
            with client.websocket_connect('/feed'):
                """Not get here."""
        assert (info.value.status, info.value.headers['www-authenticate']) == (401, 'Bearer')
        headers = {'Authorization': 'Bearer read-it-from-the-environment'}
        assert received(client, '/feed', headers=headers) == 'news'

    @use('subprotocol_auth')
    def test_subprotocol_logs_in_secretly(self, client):
        """A token in a subprotocol logs in and is not sent back."""
        assert denied(client, '/inbox', subprotocols=['chat']) == (403, 'A token is missing')
        with client.websocket_connect('/inbox', subprotocols=['chat', 'token.c2VjcmV0']) as ws:
            assert (ws.subprotocol, ws.receive()) == ('chat', 'hello, Ada')

    @use('limits')
    def test_limits_close(self, client):
        assert received(client, '/chat', 'x' * 4096) == 'x' * 4096
        assert closed(client, '/chat', 'x' * 4097) == (1009, 'Message larger than 4096 bytes')
        assert received(client, '/upload', b'x' * 5000) == '5000'
        with client.websocket_connect('/upload'):
            assert denied(client, '/upload') == (503, 'Too many connections')

    @use('limits')
    def test_a_rate_closes(self, client):
        with client.websocket_connect('/chat') as ws:
            for _ in range(21):
                ws.send('x')
            assert list(ws) == 20 * ['x']
            with pytest.raises(ConnectionClosed) as info:
                ws.receive()
        assert (info.value.code, info.value.reason) == (1008, 'More than 20 messages per second')

    async def test_proxy_decides_the_scheme(self):
        """Behind a proxy the scheme is the one that the proxy forwards."""
        app = ProxyHeadersMiddleware(load('quickstart').app, trusted_hosts='*')
        headers = {'Origin': 'https://testserver', 'X-Forwarded-Proto': 'https'}
        async with connect(app, '/chat/a', headers=headers, timeout=TIMEOUT) as ws:
            await ws.send('hello')
            assert await ws.receive() == 'a: hello'
        with pytest.raises(HandshakeDenied) as info:
            async with connect(app, '/chat/a', headers={'Origin': 'https://testserver'}, timeout=TIMEOUT):
                """Not get here."""
        assert info.value.status == 403


class TestTesting:
    TESTS = [name for name in vars(load('testing')) if name.startswith('test_')]

    @pytest.mark.parametrize('name', TESTS)
    async def test_the_tests_of_the_page_pass(self, name):
        result = getattr(load('testing'), name)()
        if inspect.isawaitable(result):
            await result

    @pytest.mark.parametrize(
        'name, error, message',
        [
            ('never_answers', WaitTimeout, r'Waited 2 seconds for a message of /never-answers.\n'),
            ('never_answers', WaitTimeout, r'was in never_answers, .*cases.py line \d+: await asyncio.sleep\(3600\)$'),
            ('returns', ConnectionClosed, 'closed the connection with 1000'),
            ('raises_late', RuntimeError, '^could not save$'),
            ('leaks_task', TasksLeft, r'left 1 task\(s\) running:\n.* in beat, .*cases.py line \d+: await asyncio'),
        ],
    )
    def test_what_goes_wrong_is_reported(self, name, error, message):
        with pytest.raises(error, match=message):
            getattr(load('cases'), 'test_' + name)()

    @needs_starlette
    @pytest.mark.parametrize(
        'name, hangs', [('never_answers', True), ('returns', True), ('raises_late', False), ('leaks_task', False)]
    )
    def test_starlette_client_hangs_or_passes(self, name, hangs):
        """Starlette's test client hangs or passes in the same cases."""
        code = 'import faulthandler, starlette_cases as cases\n'
        code += 'faulthandler.dump_traceback_later(%g, exit=True)\n' % (HANGS_AFTER if hangs else PATIENCE)
        code += 'cases.test_%s()\nprint("passed")' % name
        done = run_python('-B', '-c', code, cwd=EXAMPLES)
        assert ('Timeout (' in done.stderr, 'in receive_text' in done.stderr) == (hangs, hangs), done.stderr
        assert done.stdout == ('' if hangs else 'passed\n')


class TestPages:
    def test_settings_table_shows_defaults(self):
        """Every setting has a row with its default in the guide."""
        guide = page('guide')
        for name in SETTING_NAMES:
            assert '   * - ``%s``\n' % name in guide, name
            default = getattr(Settings(), name)
            shown = {'json': '``json``', 'max_message_size': '1 MiB', 'max_connections': '10,000'}
            assert '   * - ``%s``\n     - %s\n' % (name, shown.get(name, '``%r``' % (default,))) in guide, name

    def test_reference_has_every_public_name(self):
        """Every public name is in the reference."""
        reference = page('reference')
        for name in apistar_ws.__all__:
            assert ':: apistar_ws.%s\n' % name in reference, name
        for name in PUBLIC_IN_TESTING:
            assert ':: apistar_ws.testing.%s\n' % name in reference, name

    def test_every_example_is_on_a_page(self):
        pages = ''.join(path.read_text(encoding='utf-8') for path in DOCS.glob('*.rst'))
        for path in EXAMPLES.glob('*.py'):
            assert 'examples/%s' % path.name in pages, path.name
