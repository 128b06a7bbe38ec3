"""What the injector supplies on a handshake: the channel, and API Star's own values of the request."""

from typing import Any, Tuple
from urllib.parse import parse_qsl

from apistar import http
from apistar.server.asgi import ASGIReceive, ASGIScope, ASGISend
from apistar.server.components import Component

from apistar_ws.settings import Settings, check_settings
from apistar_ws.websocket import WebSocket, connection_url


class WebSocketComponent(Component):  # type: ignore[misc]
    """Supplies ``ws: WebSocket`` and carries the application's settings.

    Give one to the application, ``components=[WebSocketComponent(idle_timeout=60)]``; without one it adds its
    own with the defaults.

    :param settings: see :class:`apistar_ws.Settings`; a route's decorator stands over them.
    :raises ConfigurationError: for a setting or a value that is not known.
    """

    def __init__(self, **settings: Any) -> None:
        check_settings(settings, 'WebSocketComponent')
        self.settings = Settings(**settings)

    def resolve(self, scope: ASGIScope, receive: ASGIReceive, send: ASGISend) -> WebSocket:
        """Return a channel over the scope.

        On a handshake the application supplies the one it made; this is what a hook sees on plain HTTP, where
        ``ws.scope['type']`` says so and the channel cannot be connected.
        """
        return WebSocket(scope, receive, send, self.settings)


class HandshakeMethod(Component):  # type: ignore[misc]
    """Supplies ``http.Method``: a handshake is a GET (RFC 6455 section 4.1)."""

    def resolve(self) -> http.Method:
        """Return ``GET``."""
        return http.Method('GET')


class HandshakeURL(Component):  # type: ignore[misc]
    """Supplies ``http.URL`` as the client wrote it, ``ws`` or ``wss``, with its port."""

    def resolve(self, scope: ASGIScope) -> http.URL:
        """Return the URL of the handshake."""
        return http.URL(connection_url(scope))


class HandshakeHost(Component):  # type: ignore[misc]
    """Supplies ``http.Host``, also on a Unix socket, where the server has none."""

    def resolve(self, scope: ASGIScope) -> http.Host:
        """Return the host of the URL."""
        return http.Host(http.URL(connection_url(scope)).components.hostname)


class HandshakePort(Component):  # type: ignore[misc]
    """Supplies ``http.Port``, also on a Unix socket, where the server has none."""

    def resolve(self, scope: ASGIScope) -> http.Port:
        """Return the port of the URL, or the scheme's own."""
        components = http.URL(connection_url(scope)).components
        return http.Port(components.port or (443 if components.scheme == 'wss' else 80))


class HandshakeBody(Component):  # type: ignore[misc]
    """Supplies ``http.Body``, empty: a handshake has no body, and reading one would swallow messages."""

    def resolve(self) -> http.Body:
        """Return no bytes."""
        return http.Body(b'')


class HandshakeQueryParams(Component):  # type: ignore[misc]
    """Supplies ``http.QueryParams``, without parsing where there is nothing to parse."""

    def resolve(self, scope: ASGIScope) -> http.QueryParams:
        """Return the parameters of the query string."""
        query = scope.get('query_string')
        return http.QueryParams(parse_qsl(query.decode())) if query else NO_QUERY_PARAMS


NO_QUERY_PARAMS = http.QueryParams()

HANDSHAKE_COMPONENTS: Tuple[Component, ...] = (
    HandshakeMethod(),
    HandshakeURL(),
    HandshakeHost(),
    HandshakePort(),
    HandshakeBody(),
    HandshakeQueryParams(),
)
