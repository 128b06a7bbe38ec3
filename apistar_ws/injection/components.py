"""The components of a handshake: the WebSocket, and API Star's values of a request."""

from typing import Any, Tuple
from urllib.parse import SplitResult, urlsplit

from apistar import http
from apistar.server import validation
from apistar.server.asgi import ASGIReceive, ASGIScope, ASGISend, URLComponent
from apistar.server.components import Component

from apistar_ws.connection.handshake import connection_url, decode_headers, query_pairs, with_root_path
from apistar_ws.connection.websocket import WebSocket
from apistar_ws.settings import Options, Settings, check_settings
from apistar_ws.types import Unpack


class WebSocketComponent(Component):  # type: ignore[misc]
    """Supplies ``ws: WebSocket`` and carries the application's settings.

    Pass one to the application, ``components=[WebSocketComponent(idle_timeout=60)]``; otherwise the application adds
    one with the default settings.

    :param settings: see :class:`apistar_ws.Settings`; a route's decorator overrides them.
    :raises ConfigurationError: for an unknown setting or an invalid value.
    """

    #: The name under which an application may have only one; see ``require_components``.
    given_once = 'WebSocketComponent'

    def __init__(self, **settings: 'Unpack[Options]') -> None:
        check_settings(settings, 'WebSocketComponent')
        self.settings = Settings(**settings)

    def resolve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> WebSocket:
        """Return a WebSocket over the scope.

        On a handshake the application supplies its own. This one is for hooks on plain HTTP: ``ws.scope['type']`` is
        ``http``, and it cannot be connected.
        """
        return WebSocket(scope, receive, send, self.settings)


class _HandshakeMethodComponent(Component):  # type: ignore[misc]
    """Supplies ``http.Method``: a handshake is a GET (RFC 6455 section 4.1)."""

    def resolve(self) -> http.Method:
        """Return ``GET``."""
        return http.Method('GET')


class _RequestPath(Component):  # type: ignore[misc]
    """Supplies ``http.Path`` as routes match it, without the root path that API Star prefixes."""

    def resolve(self, scope: ASGIScope) -> http.Path:
        """Return the path within the application."""
        return http.Path(scope['path'])


class _RequestURL(Component):  # type: ignore[misc]
    """Supplies ``http.URL`` over HTTP, with the root path that API Star omits."""

    def resolve(self, scope: ASGIScope) -> http.URL:
        """Return the URL of the request."""
        path = with_root_path(scope, scope['path'])
        return http.URL(URLComponent().resolve({**scope, 'path': path}))


class _HandshakeURL(Component):  # type: ignore[misc]
    """Supplies ``http.URL`` as the client requested it, ``ws`` or ``wss``, with its port."""

    def resolve(self, scope: ASGIScope) -> http.URL:
        """Return the URL of the handshake."""
        return http.URL(connection_url(scope))


class _HandshakeHost(Component):  # type: ignore[misc]
    """Supplies ``http.Host``, also on a Unix socket, where the server does not know it."""

    def resolve(self, scope: ASGIScope) -> http.Host:
        """Return the host of the URL."""
        return http.Host(_url_components(scope).hostname)


class _HandshakePort(Component):  # type: ignore[misc]
    """Supplies ``http.Port``, also on a Unix socket, where the server does not know it."""

    def resolve(self, scope: ASGIScope) -> http.Port:
        """Return the port of the URL, or the default of the scheme."""
        components = _url_components(scope)
        return http.Port(components.port or (443 if components.scheme == 'wss' else 80))


def _url_components(scope: Any) -> SplitResult:
    return urlsplit(connection_url(scope))


class _HandshakeBody(Component):  # type: ignore[misc]
    """Supplies an empty ``http.Body``: a handshake has none, and reading one would consume messages."""

    def resolve(self) -> http.Body:
        """Return no bytes."""
        return http.Body(b'')


class HeadersComponent(Component):  # type: ignore[misc]
    """Supplies ``http.Headers``, also over HTTP; it decodes any bytes that a client may send."""

    def resolve(self, scope: ASGIScope) -> http.Headers:
        """Return the headers."""
        return http.Headers(decode_headers(scope))


class _HandshakeQueryString(Component):  # type: ignore[misc]
    """Supplies ``http.QueryString``, also to hooks of a denial because of undecodable bytes."""

    def resolve(self, scope: ASGIScope) -> http.QueryString:
        """Return the query string."""
        return http.QueryString(scope.get('query_string', b'').decode('utf-8', 'replace'))


class _HandshakePathParams(validation.ValidatePathParamsComponent):  # type: ignore[misc]
    """Supplies the path parameters to hooks of a denial, which may have no route; otherwise see ``Arguments``."""

    def resolve(self, path_params: http.PathParams) -> validation.ValidatedPathParams:
        """Return the parameters unchanged."""
        return validation.ValidatedPathParams(path_params)


class _HandshakeValidatedQueryParams(validation.ValidateQueryParamsComponent):  # type: ignore[misc]
    """Supplies the query parameters to hooks of a denial, which may have no route; otherwise see ``Arguments``."""

    def resolve(self, query_params: http.QueryParams) -> validation.ValidatedQueryParams:
        """Return the parameters unchanged."""
        return validation.ValidatedQueryParams(query_params)


class _HandshakeQueryParams(Component):  # type: ignore[misc]
    """Supplies ``http.QueryParams``; an empty query string is not parsed."""

    def resolve(self, scope: ASGIScope) -> http.QueryParams:
        """Return the parameters of the query string."""
        query = scope.get('query_string')
        return http.QueryParams(query_pairs(query.decode('utf-8', 'replace'))) if query else _NO_QUERY_PARAMS


_NO_QUERY_PARAMS = http.QueryParams()

#: Replacements for API Star's components over HTTP.
REQUEST_COMPONENTS: Tuple[Component, ...] = (_RequestPath(), _RequestURL(), HeadersComponent())
#: Replacements for API Star's components on a handshake.
HANDSHAKE_COMPONENTS: Tuple[Component, ...] = (
    _RequestPath(),
    _HandshakeMethodComponent(),
    _HandshakeURL(),
    _HandshakeHost(),
    _HandshakePort(),
    _HandshakeBody(),
    HeadersComponent(),
    _HandshakeQueryString(),
    _HandshakeQueryParams(),
    _HandshakePathParams(),
    _HandshakeValidatedQueryParams(),
)
