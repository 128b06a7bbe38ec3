"""Explanations of denials: the response to a handshake, with its hooks and without its handler."""

import asyncio
import json
from typing import Iterator

import pytest
from apistar import exceptions, http
from apistar.server.components import Component

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from apistar_ws.asyncapi.replay import MAX_BODY, Responder
from apistar_ws.testing import TestClient

PAGE = '/docs/websockets/'
ran = []


@pytest.fixture(autouse=True)
def notes():
    del ran[:]


class Guard:
    async def on_request(self, path: http.Path, headers: http.Headers):
        ran.append('on_request')
        if path == '/rooms/99':
            # So long that the client may have left meanwhile.
            await asyncio.sleep(0.3)
        if path == '/guarded':
            raise exceptions.Forbidden({'why': 'so', 'cookie': headers.get('cookie', '')})
        if path == '/long':
            raise exceptions.Forbidden('x' * (MAX_BODY + 5))

    def on_response(self, path: http.Path, response: http.Response):
        ran.append('on_response %d' % response.status_code)
        if path != PAGE:
            response.headers['Set-Cookie'] = 'secret=1'


class User(str):
    """The user who is logged in."""


class UserComponent(Component):
    def resolve(self, ws: WebSocket, origin: http.Header = ''):
        """Not used."""

    def can_handle_parameter(self, parameter):
        return parameter.annotation is User


@websocket_route('/guarded')
async def guarded(ws: WebSocket):
    ran.append('handler')  # pragma: no cover


@websocket_route('/long')
async def long(ws: WebSocket):
    ran.append('handler')  # pragma: no cover


@websocket_route('/rooms/{number}', subprotocols=['b', 'a'], max_connections=1)
async def room(number: int, ws: WebSocket, page: int = 1):
    await ws.send('in')
    await ws.receive()


@websocket_route('/own', connect=False)
async def own(ws: WebSocket):
    ran.append('handler')  # pragma: no cover


@websocket_route('/closes')
async def closes(user: User):
    ran.append('handler')  # pragma: no cover


class Closer:
    async def on_request(self, path: http.Path, ws: WebSocket):
        if path == '/closes':
            await ws.close()


def client_of(**options):
    handlers = collect_routes(guarded, long, room, own, closes, hidden)
    options = {'websocket_docs_explain': True, **options}
    return TestClient(ASyncApp(handlers, event_hooks=[Guard, Closer], components=[UserComponent()], **options))


def ask(client, url, *subprotocols, **options):
    """Return status and JSON of the response to a request by the page."""
    headers = {
        'Origin': 'http://testserver',
        'Content-Type': 'application/json',
        **options.pop('headers', {}),
    }
    body = options.pop('data', json.dumps({'url': url, 'subprotocols': subprotocols}))
    response = client.post(options.pop('page', PAGE), data=body, headers=headers)
    assert 'set-cookie' not in response.headers
    return response.status_code, response.json()


@pytest.mark.parametrize(
    'url, told',
    [
        ('/guarded', {'accepted': False, 'status': 403, 'body': '{"why":"so","cookie":""}'}),
        ('/rooms/5', {'accepted': True, 'subprotocol': None}),
        ('/rooms/5?page=x', {'accepted': False, 'status': 400, 'body': '{"page":"Must be a number."}'}),
        ('/rooms/x', {'accepted': False, 'status': 404, 'body': '"Not found"'}),
        ('/nowhere', {'accepted': False, 'status': 404, 'body': '"Not found"'}),
        ('/own', {'accepted': True, 'subprotocol': None}),
        ('/closes', {'accepted': False, 'status': 403, 'body': ''}),
        ('/rooms/%35', {'accepted': True, 'subprotocol': None}),
        ('/rooms/99', {'accepted': True, 'subprotocol': None}),
    ],
)
def test_response_is_returned_without_handler(url, told):
    """The response is that of the handshake, and no handler runs."""
    assert ask(client_of(), url) == (200, told)
    assert 'handler' not in ran


@websocket_route('/hidden', documented=False)
async def hidden(ws: WebSocket):
    ran.append('handler')  # pragma: no cover


def test_undocumented_routes_are_not_found():
    """The response is that for an unknown URL."""
    told = {'accepted': False, 'status': 404, 'body': '"Not found"'}
    assert ask(client_of(), '/hidden') == ask(client_of(), '/nowhere') == (200, told)
    assert ran.count('on_request') == 2, 'only those of the two requests'


def test_explanations_are_off_by_default():
    """Without ``websocket_docs_explain=True`` there is no button and no route."""
    client = client_of(websocket_docs_explain=False)
    assert ask(client, '/rooms/5')[0] == 405
    assert 'data-do="explain"' not in client.get(PAGE).text


def test_hooks_run_in_pairs():
    """Each ``on_request`` is followed by ``on_response``."""
    ask(client_of(), '/rooms/5')
    # Those of the request that asks are around them.
    assert ran == ['on_request', 'on_request', 'on_response 101', 'on_response 200']


def test_cookies_are_sent_but_not_returned():
    """The handshake has the cookies of the request; the response sets none."""
    client = client_of()
    assert ask(client, '/rooms/5', 'x', 'a')[1] == {'accepted': True, 'subprotocol': 'a'}
    body = ask(client, '/guarded', headers={'Cookie': 'who=ann'})[1]['body']
    assert json.loads(body)['cookie'] == 'who=ann'


def test_long_bodies_are_cut():
    """The body of a denial is cut at its limit."""
    body = ask(client_of(), '/long')[1]['body']
    assert (len(body), body[-2:]) == (MAX_BODY + 2, ' …')


def test_replays_do_not_count():
    """A full route denies the handshake, and a replay does not count as a connection."""
    client = client_of()
    for _ in range(3):
        assert ask(client, '/rooms/5')[1]['accepted']
    with client.websocket_connect('/rooms/5') as ws:
        assert ws.receive() == 'in'
        assert ask(client, '/rooms/5')[1]['status'] == 503
    assert ask(client, '/rooms/5')[1]['accepted']


@pytest.mark.parametrize('origin', ['http://evil.example', 'https://testserver', '', 'null'])
def test_other_origins_are_refused(origin):
    """Requests of other origins run nothing."""
    status, told = ask(client_of(), '/rooms/5', headers={'Origin': origin})
    assert (status, told) == (403, 'Only for the page of this application')
    assert ran == ['on_request', 'on_response 403']


@pytest.mark.parametrize(
    'data, text',
    [
        ('{', 'Expected an object with url and subprotocols'),
        ('[]', 'Expected an object with url and subprotocols'),
        ('{}', 'Expected an object with url and subprotocols'),
        ('{"url": 5}', 'The url has to be a path of ASCII that begins with a slash'),
        ('{"url": "http://evil.example/"}', 'The url has to be a path of ASCII that begins with a slash'),
        ('{"url": "/\\u00e9"}', 'The url has to be a path of ASCII that begins with a slash'),
        ('{"url": "/a\\n"}', 'The url has to be a path of ASCII that begins with a slash'),
        ('{"url": "/", "subprotocols": ["a b"]}', 'The subprotocols have to be names'),
    ],
)
def test_invalid_bodies_are_refused(data, text):
    """The response says what is wrong with the body."""
    assert ask(client_of(), '/', data=data) == (400, text)


def test_forms_are_refused():
    """The content type has to be JSON, which forms cannot send."""
    assert ask(client_of(), '/rooms/5', headers={'Content-Type': 'text/plain'}) == (415, 'Expected application/json')


def test_no_page_no_explanation():
    """Without the page there is no route."""
    assert client_of(docs_url=None).post(PAGE).status_code == 404


async def test_responder_disconnects_after_response():
    """The disconnect follows the response."""
    answer = Responder()
    assert await answer.receive() == {'type': 'websocket.connect'}
    await answer.send({'type': 'websocket.accept'})
    assert await answer.receive() == {'type': 'websocket.disconnect', 'code': 1000}


class Database:
    """Open for one request."""

    def __init__(self):
        self.is_open = True


class DatabaseComponent(Component):
    def resolve(self) -> Iterator[Database]:
        database = Database()
        yield database
        database.is_open = False


class UsesDatabase:
    def on_request(self, database: Database):
        """Open it."""

    def on_response(self, database: Database):
        ran.append('open' if database.is_open else 'closed')


def test_resources_of_the_request_stay_open():
    """Resources of the request are not closed by the replay."""
    handlers = collect_routes(room)
    client = TestClient(
        ASyncApp(handlers, event_hooks=[UsesDatabase], components=[DatabaseComponent()], websocket_docs_explain=True)
    )
    assert ask(client, '/rooms/5')[1]['accepted']
    assert ask(client, '/nowhere')[1]['status'] == 404
    assert ran == ['open'] * 4


def test_hanging_hooks_are_cancelled(monkeypatch):
    """The response is 504, and the hook is cancelled."""

    class Hanging:
        async def on_request(self, path: http.Path):
            if path.startswith('/rooms'):
                try:
                    await asyncio.sleep(1000)
                finally:
                    ran.append('ended')

    monkeypatch.setattr('apistar_ws.asyncapi.replay.DRY_RUN_TIMEOUT', 0.1)
    client = TestClient(ASyncApp(collect_routes(room), event_hooks=[Hanging], websocket_docs_explain=True))
    assert ask(client, '/rooms/5') == (504, 'The handshake was not answered within 0.1 seconds')
    assert ran == ['ended']


async def test_concurrent_replays_do_not_count():
    """Several replays at once all find room on a route for one connection."""
    app = ASyncApp(collect_routes(guarded, room), event_hooks=[Guard], websocket_docs_explain=True)
    endpoint = next(item for item in app.websocket_lifecycle.endpoints if item.url == '/rooms/{number}')
    answers = [Responder() for _ in range(3)]
    scope = {
        'type': 'websocket',
        'path': '/rooms/99',
        'headers': [(b'host', b'a')],
        'subprotocols': [],
        'query_string': b'',
    }
    await asyncio.gather(
        *[app.websocket_lifecycle.dry_run().serve(dict(scope), one.receive, one.send) for one in answers]
    )
    assert [answer.result()['accepted'] for answer in answers] == [True] * 3
    assert endpoint.connections == set()
