"""One WebSocket route of one application: settings, arguments, admission, open connections."""

import copy
import functools
import inspect
import logging
from typing import Any, Callable, Optional, Set

from apistar import Route
from apistar.exceptions import BadRequest, ConfigurationError, Forbidden, HTTPException

from apistar_ws.connection.connection import Connection
from apistar_ws.connection.websocket import WebSocket, typed_websocket_of, websocket_of
from apistar_ws.exceptions import ServiceUnavailable
from apistar_ws.injection.arguments import Arguments
from apistar_ws.injection.injector import ASyncInjector, Handler
from apistar_ws.injection.signatures import describe_handler
from apistar_ws.log import RouteLog
from apistar_ws.messages.schema import Schema
from apistar_ws.origins import describe_origins
from apistar_ws.routing.decorators import bare_handler, declaration_for, require_coroutine_function
from apistar_ws.routing.replies import ReturnedValues
from apistar_ws.settings import Settings
from apistar_ws.types import Scope


class Endpoint:
    """One WebSocket route of one application, with settings and arguments resolved.

    Made when the application is built.

    :param route: the route.
    :param url: its whole URL.
    :param settings: the application's.
    :param injector: resolves what the handler asks for.
    :raises ConfigurationError: for a handler that cannot work.
    """

    def __init__(self, route: Route, url: str, settings: Settings, injector: ASyncInjector) -> None:
        declaration = declaration_for(route.handler, route.url)
        self.route = route
        #: The application adds the names of the ``Include`` around it.
        self.name: str = route.name
        self.settings = settings.override(**declaration.settings)
        self.connect = declaration.connect
        self.documented = declaration.documented
        self.url = url
        self.handler: Handler = bare_handler(route.handler)
        require_bound(self.handler)
        self.handler, receives, sends = declaration.typed_handler(self.handler)
        require_coroutine_function(self.handler, 'Route(%r)' % url)
        #: Sends the values that the handler returns.
        self.returned = ReturnedValues(self.handler, sends)
        #: Makes the WebSocket for a connection.
        self.make = maker(receives, sends)
        self.arguments = Arguments(self.handler, injector, url, self.connect)
        #: The admitted connections; the lifecycle removes them at their end.
        self.connections: Set[Connection] = set()
        self._max_connections = self.settings.max_connections
        self._is_draining = False
        self.log = RouteLog()

    def enter(self, connection: Connection) -> None:
        """Admit and count a connection, or raise the exception that denies it.

        :raises HTTPException: 400 for a query string that does not decode, 403 for a foreign origin, 503 for a full
            route.
        """
        scope = connection.scope
        origin: Optional[bytes] = None
        host = b''
        for name, value in scope['headers']:
            if name == b'host':
                host = value
            elif name == b'origin':
                # A handshake with two of them has none that could be allowed.
                origin = value if origin is None else b''
        if not scope.get('query_string', b'').isascii():
            require_decodable(scope)
        check = self.settings.allows_origin
        if origin is not None and check is not None and not check(origin, scope.get('scheme', 'ws'), host):
            message = 'Origin %s is not allowed on %s, which is served as %s: see allowed_origins.'
            page, server = describe_origins(origin, scope.get('scheme', 'ws'), host)
            self.log.write(logging.WARNING, message, page, self.url, server)
            raise Forbidden('Origin not allowed')
        if self._max_connections is not None and len(self.connections) >= self._max_connections:
            raise self._unavailable()
        self.connections.add(connection)

    def drain(self) -> None:
        """Admit no more connections, and deny those that wait for the accept."""
        self._is_draining = True
        self._max_connections = 0
        for connection in self.connections:
            connection.set_denial(self._unavailable())

    def without_handler(self) -> 'Endpoint':
        """Return an endpoint that does the same up to the accept, with a handler that does nothing."""
        dry = copy.copy(self)
        dry.connect, dry.handler = True, do_nothing
        # It is admitted only if there is room, and not counted.
        dry.connections = set(self.connections)
        return dry

    def _unavailable(self) -> HTTPException:
        if self._is_draining:
            return ServiceUnavailable('The server restarts')
        message = 'All %d connections of %s are taken: see max_connections.'
        self.log.write(logging.WARNING, message, self._max_connections, self.url)
        return ServiceUnavailable()


async def do_nothing(**arguments: Any) -> None:
    """Do nothing, in place of a handler."""


def require_bound(handler: Handler) -> None:
    """Refuse a method that was collected from its class.

    :raises ConfigurationError: naming the handler.
    """
    first = next(iter(inspect.signature(handler).parameters), '')
    if first == 'self' and not hasattr(handler, '__self__'):
        raise ConfigurationError(
            'The handler %s is a method without its object: collect it from an instance.' % describe_handler(handler)
        )


def maker(receives: Optional[Schema], sends: Optional[Schema]) -> Callable[..., WebSocket]:
    """Return the function that makes the WebSockets of a route, by the declared types of its messages."""
    if receives is None and sends is None:
        return websocket_of
    return functools.partial(typed_websocket_of, receives=receives, sends=sends)


def require_decodable(scope: Scope) -> None:
    """Refuse a handshake whose query string API Star cannot decode.

    :raises BadRequest: for a query string that is not UTF-8.
    """
    try:
        scope.get('query_string', b'').decode()
    except UnicodeDecodeError:
        raise BadRequest('The query string has to be UTF-8') from None
