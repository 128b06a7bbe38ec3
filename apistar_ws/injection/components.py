"""What the injector supplies on a handshake: the channel, and API Star's own values of the request."""

from typing import Any, Tuple
from urllib.parse import SplitResult, urlsplit

from apistar import http
from apistar.exceptions import BadRequest
from apistar.server import validation
from apistar.server.asgi import ASGIReceive, ASGIScope, ASGISend, URLComponent
from apistar.server.components import Component

from apistar_ws.connection.handshake import connection_url, decode_headers, query_pairs, with_root_path
from apistar_ws.connection.websocket import WebSocket
from apistar_ws.settings import Options, Settings, check_settings
from apistar_ws.types import Unpack


class WebSocketComponent(Component):  # type: ignore[misc]
    """Supplies ``ws: WebSocket`` and carries the application's settings.

    Give one to the application, ``components=[WebSocketComponent(idle_timeout=60)]``; without one it adds its
    own with the defaults.

    :param settings: see :class:`apistar_ws.Settings`; a route's decorator overrides them.
    :raises ConfigurationError: for a setting or a value that is not known.
    """

    #: An application has one; see ``require_components``.
    given_once = 'WebSocketComponent'

    def __init__(self, **settings: 'Unpack[Options]') -> None:
        check_settings(settings, 'WebSocketComponent')
        self.settings = Settings(**settings)

    def resolve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> WebSocket:
        """Return a WebSocket over the scope.

        On a handshake the application supplies the one it made; this is what a hook sees on plain HTTP, where
        ``ws.scope['type']`` says so and it cannot be connected.
        """
        return WebSocket(scope, receive, send, self.settings)


class HandshakeMethodComponent(Component):  # type: ignore[misc]
    """Supplies ``http.Method``: a handshake is a GET (RFC 6455 section 4.1)."""

    def resolve(self) -> http.Method:
        """Return ``GET``."""
        return http.Method('GET')


class RequestPath(Component):  # type: ignore[misc]
    """Supplies ``http.Path`` as the routes match it, without the root path, which API Star puts before it."""

    def resolve(self, scope: ASGIScope) -> http.Path:
        """Return the path within the application."""
        return http.Path(scope['path'])


class RequestURL(Component):  # type: ignore[misc]
    """Supplies ``http.URL`` over HTTP, as API Star does, with the root path, which it leaves out."""

    def resolve(self, scope: ASGIScope) -> http.URL:
        """Return the URL of the request."""
        path = with_root_path(scope, scope['path'])
        return http.URL(URLComponent().resolve({**scope, 'path': path}))


class HandshakeURL(Component):  # type: ignore[misc]
    """Supplies ``http.URL`` as the client wrote it, ``ws`` or ``wss``, with its port."""

    def resolve(self, scope: ASGIScope) -> http.URL:
        """Return the URL of the handshake."""
        return http.URL(connection_url(scope))


class HandshakeHost(Component):  # type: ignore[misc]
    """Supplies ``http.Host``, also on a Unix socket, where the server has none."""

    def resolve(self, scope: ASGIScope) -> http.Host:
        """Return the host of the URL."""
        return http.Host(url_components(scope).hostname)


class HandshakePort(Component):  # type: ignore[misc]
    """Supplies ``http.Port``, also on a Unix socket, where the server has none."""

    def resolve(self, scope: ASGIScope) -> http.Port:
        """Return the port of the URL, or the scheme's own."""
        components = url_components(scope)
        return http.Port(components.port or (443 if components.scheme == 'wss' else 80))


def url_components(scope: Any) -> SplitResult:
    """Return the parts of the URL of a handshake.

    :raises BadRequest: for a Host header that is none.
    """
    try:
        components = urlsplit(connection_url(scope))
        components.port
    except ValueError:
        raise BadRequest('The Host header is malformed') from None
    return components


class HandshakeBody(Component):  # type: ignore[misc]
    """Supplies ``http.Body``, empty: a handshake has no body, and reading one would swallow messages."""

    def resolve(self) -> http.Body:
        """Return no bytes."""
        return http.Body(b'')


class HeadersComponent(Component):  # type: ignore[misc]
    """Supplies ``http.Headers``, whatever bytes a client sends, over HTTP too."""

    def resolve(self, scope: ASGIScope) -> http.Headers:
        """Return the headers."""
        return http.Headers(decode_headers(scope))


class HandshakeQueryString(Component):  # type: ignore[misc]
    """Supplies ``http.QueryString``, also while a handshake is denied because it does not decode."""

    def resolve(self, scope: ASGIScope) -> http.QueryString:
        """Return the query string."""
        return http.QueryString(scope.get('query_string', b'').decode('utf-8', 'replace'))


class HandshakePathParams(validation.ValidatePathParamsComponent):  # type: ignore[misc]
    """Supplies the path parameters for hooks of a denial, where there need not be a route; else see ``Arguments``."""

    def resolve(self, path_params: http.PathParams) -> validation.ValidatedPathParams:
        """Return the parameters as they are."""
        return validation.ValidatedPathParams(path_params)


class HandshakeValidatedQueryParams(validation.ValidateQueryParamsComponent):  # type: ignore[misc]
    """Supplies the query parameters for hooks of a denial, where there need not be a route; else see ``Arguments``."""

    def resolve(self, query_params: http.QueryParams) -> validation.ValidatedQueryParams:
        """Return the parameters as they are."""
        return validation.ValidatedQueryParams(query_params)


class HandshakeQueryParams(Component):  # type: ignore[misc]
    """Supplies ``http.QueryParams``, without parsing where there is nothing to parse."""

    def resolve(self, scope: ASGIScope) -> http.QueryParams:
        """Return the parameters of the query string."""
        query = scope.get('query_string')
        return http.QueryParams(query_pairs(query.decode('utf-8', 'replace'))) if query else NO_QUERY_PARAMS


NO_QUERY_PARAMS = http.QueryParams()

#: In place of API Star's own over HTTP.
REQUEST_COMPONENTS: Tuple[Component, ...] = (RequestPath(), RequestURL(), HeadersComponent())
HANDSHAKE_COMPONENTS: Tuple[Component, ...] = (
    RequestPath(),
    HandshakeMethodComponent(),
    HandshakeURL(),
    HandshakeHost(),
    HandshakePort(),
    HandshakeBody(),
    HeadersComponent(),
    HandshakeQueryString(),
    HandshakeQueryParams(),
    HandshakePathParams(),
    HandshakeValidatedQueryParams(),
)
