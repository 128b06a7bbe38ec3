import pytest
from apistar import http
from apistar.exceptions import ConfigurationError
from apistar.server.components import Component

from apistar_ws import ASyncApp, Settings, WebSocket, WebSocketComponent, collect_routes, websocket_route
from apistar_ws.testing import connect
from tests.conversations import CONNECT, Peer, run, scope, sent


class Everything:
    """What API Star knows of a request."""

    def __init__(self, **values):
        self.values = values


class EverythingComponent(Component):
    def resolve(
        self,
        request: http.Request,
        method: http.Method,
        url: http.URL,
        scheme: http.Scheme,
        host: http.Host,
        port: http.Port,
        path: http.Path,
        query_string: http.QueryString,
        query_params: http.QueryParams,
        x: http.QueryParam,
        headers: http.Headers,
        agent: http.Header,
        body: http.Body,
        ws: WebSocket,
    ) -> Everything:
        return Everything(
            request=[request.method, request.url, request.headers['agent'], request.body.decode()],
            method=method, url=url, scheme=scheme, host=host, port=port, path=path, query_string=query_string,
            query_params=query_params.get_list('x'), x=x, headers=headers['agent'], agent=agent, body=body.decode(),
            websocket=ws.state.value,
        )  # fmt: skip


@websocket_route('/{room}')
async def show(everything: Everything, ws: WebSocket):
    await ws.send_json(everything.values)


APP = ASyncApp(collect_routes(show), components=[EverythingComponent()])


@pytest.mark.parametrize(
    'url, scheme, host, port',
    [
        ('ws://example.com:8000', 'ws', 'example.com', 8000),
        ('ws://example.com', 'ws', 'example.com', 80),
        ('wss://example.com', 'wss', 'example.com', 443),
    ],
)
async def test_handshake_is_known_like_a_request(url, scheme, host, port):
    """Everything that API Star supplies for a request is supplied for a handshake."""
    async with connect(APP, url + '/a?x=1&x=2', headers={'Agent': 'me'}) as ws:
        assert await ws.receive_json() == {
            'request': ['GET', url + '/a?x=1&x=2', 'me', ''],
            'method': 'GET',
            'url': url + '/a?x=1&x=2',
            'scheme': scheme,
            'host': host,
            'port': port,
            'path': '/a',
            'query_string': 'x=1&x=2',
            'query_params': ['1', '2'],
            'x': '1',
            'headers': 'me',
            'agent': 'me',
            'body': '',
            'websocket': 'connecting',
        }


async def test_unix_socket_has_default_address():
    """A Unix socket has a default host and port."""
    peer = Peer(CONNECT)
    await run(APP, scope('/a', [('agent', 'me')], server=('/run/app.sock', None)), peer)
    assert '"host":"testserver","port":80' in peer.sent[1]['text']


async def test_application_has_default_component():
    """The application has a WebSocketComponent if none is given."""
    for components in (None, [], [WebSocketComponent()]):
        async with connect(
            ASyncApp(collect_routes(show), components=[*(components or []), EverythingComponent()]),
            '/a',
            headers={'Agent': 'me'},
        ) as ws:
            assert (await ws.receive_json())['agent'] == 'me'


def test_a_component_carries_settings():
    assert WebSocketComponent(idle_timeout=5).settings == Settings(idle_timeout=5)
    with pytest.raises(ConfigurationError, match='WebSocketComponent does not know the setting idle_time'):
        WebSocketComponent(idle_time=5)


async def test_plain_http_cannot_connect():
    """Over plain HTTP a component may ask for the WebSocket, which cannot connect."""
    component = WebSocketComponent(idle_timeout=5)
    ws = component.resolve(scope('/a', type='http'), None, None)
    assert (ws.scope['type'], ws.settings.idle_timeout) == ('http', 5)


async def test_route_overrides_application_settings():
    """The settings of a route override those of the application."""
    seen = []

    @websocket_route('/x', idle_timeout=7)
    async def handler(ws: WebSocket):
        seen.append((ws.settings.idle_timeout, ws.settings.max_message_size))
        await ws.send('a')

    app = ASyncApp(collect_routes(handler), components=[WebSocketComponent(idle_timeout=5, max_message_size=9)])
    peer = Peer(CONNECT)
    await run(app, scope('/x'), peer)
    assert seen == [(7, 9)]
    assert peer.sent[1] == sent('a')
