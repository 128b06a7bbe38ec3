"""The AsyncAPI document of an application, and its URLs."""

import datetime
import decimal
import enum
import json
import subprocess
import sys
from typing import AsyncIterator, Optional, Tuple, Union

import jsonschema
import pytest
from apistar import Include, Route, exceptions, http, types, validators
from apistar.exceptions import ConfigurationError
from apistar.server.asgi import ASGIScope
from apistar.server.components import Component
from hypothesis import HealthCheck, given

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route, websocket_stream
from apistar_ws.__main__ import main
from apistar_ws.app import neighbour
from apistar_ws.asyncapi.document import MEDIA_TYPE
from apistar_ws.testing import TestClient
from tests import sizes
from tests.asyncapi.applications import applications, examples
from tests.servers import ROOT

ALWAYS = {
    '1000': 'The handler has returned.',
    '1003': 'Text where bytes were expected, or bytes where text was.',
    '1007': 'A message is not JSON, or not what the route declares.',
    '1008': 'The client sends too fast, or does not read.',
    '1009': 'A message is too large.',
    '1011': 'The server has failed.',
    '1012': 'The server restarts: come back.',
    '1013': 'The server cannot serve this client now: come back later.',
    '4400 to 4599': '4000 and a status of HTTP, for what the handler has raised: 4403 is Forbidden.',
    '4401': 'The connection has expired, or nobody is logged in.',
}


class Bid(types.Type):
    type = validators.String(enum=['bid'])
    amount = validators.Integer(minimum=1)


class Say(types.Type):
    type = validators.String(enum=['say'])
    text = validators.String()


class User(str):
    """The user who is logged in."""


class UserComponent(Component):
    def resolve(self, authorization: http.Header, key: http.QueryParam = '') -> User:
        return User()  # pragma: no cover


class Guard:
    def on_request(self, x_token: http.Header = None, path: http.Path = None):
        """Let all pass."""


@websocket_route('/auctions/{item}/{+rest}', receives=[Bid, Say], sends=Bid, subprotocols=['v1'], idle_timeout=60)
async def auction(item: int, ws: WebSocket, user: User, limit: int = 5, flag: bool = None, must: float = 0.5):
    """Bid for something.

    The highest bid counts.
    """


@websocket_listener('/echo')
async def echo(message: str) -> str:
    return message  # pragma: no cover


@websocket_listener('/deaf')
async def deaf(message: bytes):
    """Say nothing."""


@websocket_stream('/ticks')
async def ticks(start: int) -> AsyncIterator[Say]:
    yield Say(type='say', text='tick')  # pragma: no cover


@websocket_route('/secret', documented=False)
async def secret():
    """Undocumented."""


@websocket_listener('/secret-too', documented=False)
async def secret_too(message):
    """Undocumented."""


def app(*handlers, **options):
    return ASyncApp(collect_routes(*handlers, secret, secret_too), components=[UserComponent()], **options)


def payload(name):
    return {'$ref': '#/components/schemas/' + name}


def described(name, example):
    return {
        'name': name,
        'title': name,
        'contentType': 'application/json',
        'payload': payload(name),
        'examples': [{'payload': example}],
    }


BID, SAY = described('Bid', {'type': 'bid', 'amount': 1}), described('Say', {'type': 'say', 'text': 'text'})


def test_routes_are_described_completely():
    """The channel has messages, parameters, bindings, subprotocols and close codes."""
    document = app(auction, event_hooks=[Guard]).asyncapi
    assert document['asyncapi'] == '3.1.0' and 'servers' not in document
    assert document['channels'] == {
        'auction': {
            'address': '/auctions/{item}/{rest}',
            'title': 'auction',
            'summary': 'Bid for something.',
            'description': 'The highest bid counts.',
            'messages': {'Bid': BID, 'Say': SAY},
            'parameters': {
                'item': {'description': 'An integer.', 'examples': ['1']},
                'rest': {'description': 'A string.', 'examples': ['rest']},
            },
            'bindings': {
                'ws': {
                    'method': 'GET',
                    'bindingVersion': '0.1.0',
                    'query': {
                        'type': 'object',
                        'properties': {
                            'key': {'type': 'string', 'default': ''},
                            'limit': {'type': 'integer', 'default': 5},
                            'flag': {'type': 'boolean'},
                            'must': {'type': 'number', 'default': 0.5},
                        },
                    },
                    'headers': {
                        'type': 'object',
                        'properties': {'authorization': {'type': 'string'}, 'x-token': {'type': 'string'}},
                        'required': ['authorization'],
                    },
                }
            },
            'x-subprotocols': ['v1'],
            'x-close-codes': {**ALWAYS, '1001': 'Nothing was received for 60 seconds.'},
        }
    }
    at = '#/channels/auction'
    assert document['operations'] == {
        'auction.receive': {
            'action': 'receive',
            'channel': {'$ref': at},
            'messages': [{'$ref': at + '/messages/Bid'}, {'$ref': at + '/messages/Say'}],
        },
        'auction.send': {
            'action': 'send',
            'channel': {'$ref': at},
            'messages': [{'$ref': at + '/messages/Bid'}],
        },
    }
    assert sorted(document['components']['schemas']) == ['Bid', 'Say']


def test_listeners_reply_and_streams_send():
    """A listener with a return annotation is one operation with a reply."""
    document = app(echo, deaf, ticks).asyncapi
    assert [
        (name, operation['action'], 'reply' in operation) for name, operation in document['operations'].items()
    ] == [
        ('echo.receive', 'receive', True),
        ('deaf.receive', 'receive', False),
        ('deaf.send', 'send', False),
        ('ticks.send', 'send', False),
    ]
    reply = document['operations']['echo.receive']['reply']
    assert reply == {'channel': {'$ref': '#/channels/echo'}, 'messages': [{'$ref': '#/channels/echo/messages/text'}]}
    messages = {name: channel['messages'] for name, channel in document['channels'].items()}
    assert messages['echo'] == {
        'text': {'name': 'text', 'title': 'Text', 'contentType': 'text/plain', 'payload': {'type': 'string'}}
    }
    assert messages['deaf']['bytes']['contentType'] == 'application/octet-stream'
    assert messages['ticks'] == {'Say': SAY}
    assert document['channels']['ticks']['bindings']['ws']['query']['required'] == ['start']


def test_equal_names_get_numbers():
    """Messages and routes of the same name have different keys."""
    other = type(types.Type)('Bid', (types.Type,), {'count': validators.Integer()})

    @websocket_route('/one', name='a:b', receives=Bid, sends=other)
    async def one(ws: WebSocket):
        """Not run."""

    @websocket_route('/two', name='a.b', receives=validators.Object({'code': validators.String(pattern='^x')}))
    async def two(ws: WebSocket):
        """Not run."""

    document = app(one, two).asyncapi
    assert list(document['channels']) == ['a.b', 'a.b2']
    assert list(document['channels']['a.b']['messages']) == ['Bid', 'Bid2']
    assert document['operations']['a.b.send']['messages'] == [{'$ref': '#/channels/a.b/messages/Bid2'}]
    assert 'examples' not in document['channels']['a.b2']['messages']['Object']


def test_path_parameters_may_have_defaults():
    """The default is also the example."""

    @websocket_route('/pages/{number}')
    async def page(ws: WebSocket, number: int = 7):
        """Not run."""

    parameters = app(page).asyncapi['channels']['page']['parameters']
    assert parameters == {'number': {'description': 'An integer.', 'default': '7', 'examples': ['7']}}


def test_limits_are_included_on_request():
    """They are public only with ``websocket_schema_limits=True``."""
    assert 'x-limits' not in app(auction).asyncapi['channels']['auction']
    limits = app(auction, websocket_schema_limits=True).asyncapi['channels']['auction']['x-limits']
    assert (limits['idle_timeout'], limits['max_connections']) == (60, 10_000)


def test_document_is_served_with_links():
    """It has its own media type, and relative links to the pages."""
    served = app(echo)
    response = TestClient(served).get('/schema/websockets/')
    assert response.headers['content-type'] == MEDIA_TYPE == 'application/vnd.aai.asyncapi+json;version=3.1.0'
    assert response.json() == served.asyncapi
    # Made once.
    assert served.asyncapi is served.asyncapi
    assert response.json()['info']['x-links'] == {'page': '../../docs/websockets/', 'http': '../../docs/'}


@pytest.mark.parametrize(
    'options, found, links',
    [
        ({}, ['/schema/websockets/', '/docs/websockets/'], {'page': '../../docs/websockets/', 'http': '../../docs/'}),
        ({'schema_url': None, 'docs_url': None}, [], None),
        ({'docs_url': None}, ['/schema/websockets/'], {}),
        ({'schema_url': '/api.json'}, ['/api.websockets.json', '/docs/websockets/'],
         {'page': 'docs/websockets/', 'http': 'docs/'}),
        ({'websocket_schema_url': '/ws.json', 'websocket_docs_url': '/try'}, ['/ws.json', '/try'],
         {'page': 'try', 'http': 'docs/'}),
        ({'websocket_schema_url': None}, ['/docs/websockets/'], None),
        ({'websocket_docs_url': None}, ['/schema/websockets/'], {'http': '../../docs/'}),
    ],
)  # fmt: skip
def test_urls_follow_api_star_or_arguments(options, found, links):
    """The default URLs are derived from those of API Star's documentation."""
    client = TestClient(app(echo, **options))
    places = ['/schema/websockets/', '/docs/websockets/', '/api.websockets.json', '/ws.json', '/try']
    assert sorted(place for place in places if client.get(place).status_code == 200) == sorted(found)
    if links is not None:
        schema = next(place for place in found if 'docs' not in place and place != '/try')
        assert client.get(schema).json()['info'].get('x-links', {}) == links


def test_applications_without_websockets_are_undocumented():
    """They serve neither document nor page."""
    client = TestClient(ASyncApp([Route('/', 'GET', lambda: 'x', name='x')]))
    assert client.get('/schema/websockets/').status_code == client.get('/docs/websockets/').status_code == 404


def test_own_routes_are_served_first():
    def show():
        return {'page': 'own'}

    client = TestClient(ASyncApp([Route('/docs/websockets/', 'GET', show), *collect_routes(echo)]))
    assert client.get('/docs/websockets/').json() == {'page': 'own'}
    assert client.get('/schema/websockets/').status_code == 200


@pytest.mark.parametrize(
    'places',
    [
        {'websocket_docs_url': '/docs/'},
        {'websocket_schema_url': '/schema/'},
        {'websocket_schema_url': '/docs/'},
        {'websocket_schema_url': '/w/', 'websocket_docs_url': '/w/'},
    ],
)
def test_urls_of_other_pages_are_refused(places):
    """One of the two pages could never be reached."""
    with pytest.raises(ConfigurationError, match='is already the URL of another page'):
        app(echo, **places)


def test_other_methods_remain_available(caplog):
    """A route of the application for another method is still served."""

    def save(page: str):
        return {'page': page}

    client = TestClient(ASyncApp([Route('/docs/{page}/', 'POST', save), *collect_routes(echo)]))
    assert client.post('/docs/websockets/').json() == {'page': 'websockets'}


def test_hooks_guard_the_documentation():
    """Event hooks run for document, page and script, as for API Star's own."""

    class Closed:
        def on_request(self, path: http.Path):
            assert path.startswith(('/schema', '/docs'))
            raise exceptions.Forbidden()

    client = TestClient(app(echo, event_hooks=[Closed], websocket_docs_explain=True))
    for url in ('/schema/', '/schema/websockets/', '/docs/websockets/', '/docs/websockets/console.js'):
        assert client.get(url).status_code == 403
    assert client.post('/docs/websockets/', json={'url': '/echo'}).status_code == 403


@pytest.mark.parametrize(
    'url, beside',
    [
        (None, None),
        ('/schema/', '/schema/websockets/'),
        ('/schema', '/schema/websockets'),
        ('/api.json', '/api.websockets.json'),
        ('/', '/websockets/'),
    ],
)
def test_default_urls_are_derived(url, beside):
    """The URLs of the WebSocket documentation are below or beside API Star's."""
    assert neighbour(url) == beside


def structure():
    return json.loads((ROOT / 'tests' / 'data' / 'asyncapi.json').read_text(encoding='utf-8'))


def check(document):
    """Check a document against the schema of AsyncAPI 3.1, and follow its references."""
    jsonschema.Draft7Validator(structure()).validate(document)
    json.dumps(document, allow_nan=False)
    for reference in references(document):
        found = document
        for part in reference[2:].split('/'):
            found = found[part]
    for schema in document.get('components', {}).get('schemas', {}).values():
        jsonschema.Draft7Validator.check_schema(schema)


def references(value):
    if isinstance(value, dict):
        if '$ref' in value:
            yield value['$ref']
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from references(item)


@pytest.mark.parametrize('name, application', list(examples()))
def test_documents_of_examples_are_valid(name, application):
    """All applications in docs/examples are described by valid documents."""
    check(application.asyncapi)


@sizes.examples(4, 25, suppress_health_check=list(HealthCheck))
@given(applications())
def test_documents_of_random_applications_are_valid(application):
    """Generated applications are described by valid documents."""
    check(application.asyncapi)


def test_schema_command_prints_the_document():
    """``python -m apistar_ws schema`` writes the document to standard output."""
    command = [sys.executable, '-W', 'ignore', '-m', 'apistar_ws', 'schema', 'chat:app', '--app-dir', 'docs/examples']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    document = json.loads(done.stdout)
    check(document)
    assert list(document['channels']) == ['chat'] and done.stderr == ''


@pytest.mark.parametrize(
    'name, text',
    [('nowhere:app', 'Could not import module "nowhere"'), ('json:dumps', 'json:dumps is not an apistar_ws.ASyncApp')],
)
def test_schema_command_reports_missing_applications(name, text, capsys):
    """The error names the module or the object."""
    with pytest.raises(SystemExit):
        main(['schema', name])
    assert text in capsys.readouterr().err


def test_schema_command_runs_in_process(capsys, monkeypatch):
    """It prints the same document without a new process."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    main(['schema', 'chat:app', '--app-dir', str(ROOT / 'docs' / 'examples')])
    assert json.loads(capsys.readouterr().out)['asyncapi'] == '3.1.0'


class Picky(Component):
    def can_handle_parameter(self, parameter):
        return issubclass(parameter.annotation, User)

    def resolve(self, scope: ASGIScope) -> User:
        return User()  # pragma: no cover


def test_failing_components_are_skipped():
    """``can_handle_parameter`` may raise for annotations that are not classes."""

    @websocket_route('/picky')
    async def picky(ws: WebSocket, user: User):
        """Not run."""

    assert list(ASyncApp(collect_routes(picky), components=[Picky()]).asyncapi['channels']) == ['picky']


class Colour(enum.Enum):
    RED = 'red'


def test_values_outside_json_are_omitted():
    """Defaults and limits that JSON cannot encode are left out."""

    @websocket_route('/odd', receives=validators.Number(maximum=float('inf'), minimum=1))
    async def odd(ws: WebSocket, ratio: float = float('inf'), colour: str = Colour.RED, thing: http.Header = object()):
        """Not run."""

    channel = app(odd).asyncapi['channels']['odd']
    assert channel['messages']['Number']['payload'] == {'type': 'number', 'minimum': 1}
    assert channel['bindings']['ws']['query']['properties'] == {
        'ratio': {'type': 'number'},
        'colour': {'type': 'string'},
    }
    check(app(odd).asyncapi)


def test_failing_routes_are_omitted(caplog):
    """A route that cannot be described is logged, and the others are described."""

    class Own(validators.Validator):
        def __init__(self):
            """Set no attributes."""

    @websocket_route('/own', receives=Own())
    async def own(ws: WebSocket):
        """Not run."""

    assert list(app(own, echo).asyncapi['channels']) == ['echo']
    assert "The WebSocket route '/own' cannot be described" in caplog.text


def test_included_routes_have_qualified_names():
    """The names of the includes precede the name of the route."""
    routes = [Include('/a', 'rooms', collect_routes(echo)), Include('/b', 'chat', collect_routes(echo))]
    channels = ASyncApp(routes).asyncapi['channels']
    assert {name: channel['address'] for name, channel in channels.items()} == {
        'rooms.echo': '/a/echo',
        'chat.echo': '/b/echo',
    }


@pytest.mark.parametrize('annotation', [Union[str, bytes], Optional[str], Tuple[str, int], dict])
def test_ambiguous_replies_are_untyped(annotation):
    """A return annotation other than text or bytes is any message."""

    async def listener(message: str):
        """Not run."""

    listener.__annotations__['return'] = annotation
    messages = app(websocket_listener('/')(listener)).asyncapi['channels']['listener']['messages']
    assert sorted(messages) == ['message', 'text']


@pytest.mark.parametrize('url', ['ws.json', '', '/d/{a}/'])
def test_urls_have_to_be_paths(url):
    """A URL that is not a path, or has parameters, is refused."""
    with pytest.raises(ConfigurationError, match='has to be a path, such as /docs/websockets/, without parameters'):
        app(echo, websocket_schema_url=url)


class Strange(types.Type):
    """A type whose parts JSON and references have trouble with."""

    at = validators.Any(default=datetime.datetime(2026, 11, 29))
    price = validators.Number(default=decimal.Decimal('1.5'))
    text = validators.String(default='\ud800', title='\ud800', description='\ud800')
    endless = validators.Number(default=float('inf'))
    key = validators.Any(default={('a',): 1})


REFERRING = validators.Object(properties={'$ref': validators.String(default='#/nowhere'), 'strange': Strange})


def test_unencodable_values_break_nothing():
    """Types with values that JSON cannot encode have a document and a page."""

    @websocket_route('/strange', receives=Strange, sends=REFERRING)
    async def strange(ws: WebSocket, ratio: float = float('nan'), text: str = '\ud800'):
        """It is not run."""

    @websocket_route('/plain')
    async def plain(ws: WebSocket):
        """It is not run."""

    @websocket_route('/referring', receives=REFERRING)
    async def referring(ws: WebSocket):
        """It is not run."""

    client = TestClient(ASyncApp(collect_routes(strange, plain, referring)))
    document = client.get('/schema/websockets/').json()
    assert sorted(document['channels']) == ['plain', 'referring', 'strange']
    page = client.get('/docs/websockets/')
    assert page.status_code == 200 and page.text.count('class="console"') == 3
    client.close()
