"""The decorators that make a handler a WebSocket route, and what collects the routes."""

import functools
import inspect
import logging
import types as python_types
import typing
from typing import Any, Callable, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import wrapt
from apistar import Route, types, validators
from apistar.exceptions import BadRequest, ConfigurationError, Forbidden, HTTPException

from apistar_ws.exceptions import ServiceUnavailable, UnsupportedMessage, close_for
from apistar_ws.injection import Arguments, ASyncInjector, Handler, describe_handler, handler_signature
from apistar_ws.messages import MessageType, Schema, is_message_type, union_members
from apistar_ws.origins import OriginCheck
from apistar_ws.readahead import Receive
from apistar_ws.settings import Settings, check_settings
from apistar_ws.websocket import Scope, Send, TypedWebSocket, WebSocket, WebSocketState

logger = logging.getLogger('apistar_ws')


class Declaration(NamedTuple):
    """What a decorator says of a handler."""

    url: str
    name: Optional[str] = None
    #: Whether the handler is connected before it runs.
    connect: bool = True
    receives: Optional[Schema] = None
    sends: Optional[Schema] = None
    settings: Mapping[str, Any] = {}
    #: Whether the handler is a listener, called for each message.
    listener: bool = False


#: What a listener may reply that is no JSON by itself.
SENDABLE = (str, bytes, bytearray, memoryview, types.Type)
#: What a plain ``Route`` says, whose handler connects by itself.
PLAIN = Declaration(url='', connect=False)


class BoundWebSocketHandler(wrapt.BoundFunctionWrapper):  # type: ignore[misc]
    """A decorated method, bound to its object."""

    @property
    def declaration(self) -> Declaration:
        """What the decorator said."""
        declared: Declaration = self._self_parent.declaration
        return declared


class WebSocketHandler(wrapt.FunctionWrapper):  # type: ignore[misc]
    """A decorated handler: to everybody else what it was, and to the application a route.

    Called with a channel that is not connected yet, as in a unit test, it connects before and closes after.
    """

    __bound_function_wrapper__ = BoundWebSocketHandler

    def __init__(self, handler: Any, declaration: Declaration) -> None:
        super().__init__(handler, call_handler(declaration))
        self._self_declaration = declaration

    @property
    def declaration(self) -> Declaration:
        """What the decorator said."""
        return self._self_declaration


def call_handler(declaration: Declaration) -> Callable[..., Any]:
    """Return wrapt's wrapper for a handler: the call as it was, in connect and close where they are missing."""

    connects = declaration.connect and not declaration.listener

    def call(handler: Handler, instance: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, WebSocket) and argument.state is WebSocketState.CONNECTING and connects:
                return conduct(argument, True, handler, args, kwargs)
        return handler(*args, **kwargs)

    return call


async def conduct(
    ws: WebSocket, connect: bool, handler: Handler, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Connect, run the handler, and close, also when it raises."""
    if connect:
        await ws.connect()
    try:
        await handler(*args, **kwargs)
    except BaseException as exc:
        if ws.state is WebSocketState.OPEN:
            await ws.close(*close_for(exc))
        raise
    await ws.close()


def websocket_route(
    url: str,
    name: Optional[str] = None,
    *,
    connect: bool = True,
    receives: Optional[MessageType] = None,
    sends: Optional[MessageType] = None,
    **settings: Any,
) -> Callable[[Any], Any]:
    """Make an async handler a WebSocket route, connected before it runs and closed after it.

    Decorate with it, above all other decorators, and hand the handler to :func:`collect_routes`; several of
    them make several routes.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; the handler's own when left out.
    :param connect: False for a handler that calls ``ws.connect()`` itself, to choose a subprotocol, send
        headers, or refuse.
    :param receives: what every message from the client is: a ``types.Type``, a validator, or a list of types.
    :param sends: what every message to the client is, likewise.
    :param settings: what differs for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for a handler or an argument that cannot work.
    """
    return marker(Declaration(url, name, connect, schema(receives), schema(sends), settings), 'websocket_route')


def marker(declaration: Declaration, decorator: str) -> Callable[[Any], Any]:
    """Return the decorator that marks a handler with ``declaration``, once both are checked."""
    where = '%s(%r)' % (decorator, declaration.url)
    if not isinstance(declaration.url, str) or not declaration.url.startswith('/'):
        raise ConfigurationError("%s: the URL has to begin with a slash, such as '/chat/{room}'." % where)
    check_settings(declaration.settings, where)

    def mark(handler: Any) -> Any:
        require_coroutine_function(handler, where)
        return WebSocketHandler(handler, declaration)

    return mark


def schema(declared: Optional[MessageType]) -> Optional[Schema]:
    """Return the schema of a declared message type, if one is declared."""
    return None if declared is None else Schema(declared)


def require_coroutine_function(handler: Any, where: str) -> None:
    """Refuse a handler that is not an ``async def``.

    :raises ConfigurationError: naming the handler.
    """
    function = inspect.unwrap(getattr(handler, '__func__', handler))
    if not hasattr(handler, '__name__'):
        raise ConfigurationError('%s: %r has no name; decorate an async def.' % (where, handler))
    if inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            '%s: %s is an async generator; a handler sends by ws.send() and does not yield.'
            % (where, describe_handler(handler))
        )
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError('%s: %s has to be an async def.' % (where, describe_handler(handler)))


# Collecting


class WebSocketRoute(Route):  # type: ignore[misc]
    """API Star's ``Route`` for a WebSocket: standalone, and in no schema, since OpenAPI has no WebSockets.

    Made by :func:`collect_routes`; put it wherever a ``Route`` goes.

    :param url: its path.
    :param handler: the decorated handler.
    :param name: its name; the handler's own when left out.
    """

    def __init__(self, url: str, handler: Any, name: Optional[str] = None) -> None:
        super().__init__(url, 'GET', handler, name=name, documented=False, standalone=True)

    def generate_link(self, url: str, method: str, handler: Any, name: str) -> None:
        """Return None, which keeps a route out of API Star's schema, also inside an ``Include``."""


def collect_routes(*sources: Any) -> List[Route]:
    """Return API Star routes for the decorated handlers in ``sources``, in the order of their definition.

    Concatenate the list with other routes or put it in an ``Include``; each call makes new routes, so that
    several applications can be built from the same handlers.

    :param sources: decorated handlers, modules, objects with decorated methods, or iterables or mappings
        (``globals()``) of them. What a module only imported is not collected from it.
    :raises ConfigurationError: for a source that is none of these.
    """
    routes: List[Route] = []
    seen = set()
    for handler in find_handlers(sources):
        for layer in layers(handler):
            key = (id(layer.declaration), id(getattr(layer, '__self__', None)))
            if key not in seen:
                seen.add(key)
                routes.append(WebSocketRoute(layer.declaration.url, layer, layer.declaration.name))
    return routes


def find_handlers(sources: Iterable[Any]) -> Iterator[Any]:
    """Yield the decorated handlers in ``sources``; methods bound to their object.

    :raises ConfigurationError: for a source that is none and has none.
    """
    for source in sources:
        if is_marked(source):
            yield source
        elif isinstance(source, python_types.ModuleType):
            yield from find_in_mapping(vars(source))
        elif isinstance(source, Mapping):
            yield from find_in_mapping(source)
        elif marked_methods(source):
            yield from (getattr(source, name) for name in marked_methods(source))
        elif isinstance(source, Iterable) and not isinstance(source, (str, bytes, type)):
            yield from find_handlers(source)
        else:
            refuse_covered(source)
            raise ConfigurationError(
                'There is nothing to collect from %r: give a handler decorated with websocket_route, a module, '
                'or an instance of a class with such methods.' % (source,)
            )


def find_in_mapping(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    """Yield the decorated handlers among the values; of a module's names, only those that it defines."""
    module = mapping.get('__name__')
    for value in list(mapping.values()):
        refuse_covered(value)
        if module is None and (isinstance(value, (python_types.ModuleType, list, tuple)) or marked_methods(value)):
            yield from find_handlers([value])
        elif is_marked(value) and module in (None, value.__module__):
            yield value


def marked_methods(source: Any) -> List[str]:
    """Return the names of the decorated methods of an object, in the order of their definition."""
    names = dict.fromkeys(name for base in reversed(type(source).__mro__) for name in vars(base))
    members = {name: inspect.getattr_static(source, name, None) for name in names}
    marked = [name for name, member in members.items() if is_marked(member)]
    for member in members.values() if marked else ():
        refuse_covered(member)
    return marked


def is_marked(value: Any) -> bool:
    """Tell whether ``value`` is a decorated handler."""
    return isinstance(value, (WebSocketHandler, BoundWebSocketHandler))


def refuse_covered(value: Any) -> None:
    """Refuse a decorated handler that another decorator covers, since its route would silently be missing.

    :raises ConfigurationError: naming the handler.
    """
    covers = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
    if covers and not is_marked(value) and any(is_marked(inner) for inner in wrapped_chain(value)):
        raise ConfigurationError(
            'The handler %s has a decorator above websocket_route, which hides its route: '
            'put websocket_route on top.' % describe_handler(value)
        )


def wrapped_chain(value: Any) -> Iterator[Any]:
    """Yield ``value`` and what it wraps, from the outside in."""
    while value is not None:
        yield value
        value = getattr(value, '__wrapped__', None)


def layers(handler: Any) -> List[Any]:
    """Return the decorated layers of ``handler``, one for each route, the upper decorator first."""
    return [layer for layer in wrapped_chain(handler) if is_marked(layer)]


def bare_handler(handler: Any) -> Any:
    """Return what the decorators were put on, bound as the handler is."""
    while is_marked(handler):
        handler = handler.__wrapped__
    return handler


# Serving


class Endpoint:
    """A WebSocket route of one application, with everything decided that can be: settings, arguments, limits.

    Made when the application is built.

    :param route: the route.
    :param url: its whole URL.
    :param settings: the application's.
    :param injector: resolves what the handler asks for.
    :raises ConfigurationError: for a handler that cannot work.
    """

    def __init__(self, route: Route, url: str, settings: Settings, injector: ASyncInjector) -> None:
        declaration: Declaration = route.handler.declaration if is_marked(route.handler) else PLAIN
        self.route = route
        self.settings = settings.override(**declaration.settings)
        self.connect = declaration.connect
        self.url = url
        self.handler: Handler = bare_handler(route.handler)
        require_coroutine_function(self.handler, 'Route(%r)' % url)
        if next(iter(inspect.signature(self.handler).parameters), '') == 'self' and not hasattr(
            self.handler, '__self__'
        ):
            raise ConfigurationError(
                'The handler %s is a method without its object: collect it from an instance.'
                % describe_handler(self.handler)
            )
        self._receives, self._sends = declaration.receives, declaration.sends
        if declaration.listener:
            self.handler, self._receives, self._sends = listen(self.handler, declaration)
        self.arguments = Arguments(self.handler, injector, url)
        #: Whether hooks or components have to be run for a connection.
        self.injects = True
        #: Connections, those that are being refused among them.
        self.connections = 0
        self._max_connections = self.settings.max_connections
        self._allows_origin = self.settings.allows_origin

    def open(self, scope: Scope, receive: Receive, send: Send, path_params: Mapping[str, Any]) -> WebSocket:
        """Return the channel of a new connection."""
        # A copy: the router remembers its own.
        path_params = dict(path_params)
        if self._receives is None and self._sends is None:
            return WebSocket(scope, receive, send, self.settings, path_params)
        return TypedWebSocket(scope, receive, send, self.settings, path_params, self._receives, self._sends)

    def admit(self, scope: Scope) -> None:
        """Let a handshake pass, or raise the exception that refuses it.

        :raises HTTPException: 400 for bytes that do not decode, 403 for a foreign origin, 503 for a full route.
        """
        origin: Optional[bytes] = None
        host = b''
        for name, value in scope['headers']:
            if not value.isascii():
                require_decodable(scope)
            if name == b'host':
                host = value
            elif name == b'origin':
                # Two of them are no origin that could be allowed.
                origin = value if origin is None else b''
        if not scope.get('query_string', b'').isascii():
            require_decodable(scope)
        if origin is not None and self._allows_origin is not None:
            self._check_origin(origin, scope.get('scheme', 'ws'), host, self._allows_origin)
        if self._max_connections is not None and self.connections > self._max_connections:
            logger.warning('All %d connections of %s are taken: see max_connections.', self._max_connections, self.url)
            raise ServiceUnavailable()

    def _check_origin(self, origin: bytes, scheme: str, host: bytes, allows_origin: OriginCheck) -> None:
        if not allows_origin(origin, scheme, host):
            logger.warning('Origin %r is not allowed on %s, host %r: see allowed_origins.', origin, self.url, host)
            raise Forbidden('Origin not allowed')


class Refusal(Endpoint):
    """Stands for the endpoint of a path that has none.

    :param exc: what refuses the handshake.
    :param settings: the application's.
    """

    def __init__(self, exc: HTTPException, settings: Settings) -> None:
        self.route = None
        self.settings = settings
        self.connections = 0
        self._exc = exc
        self._receives = self._sends = None

    def admit(self, scope: Scope) -> None:
        """Raise what refuses the handshake."""
        raise self._exc


def require_decodable(scope: Scope) -> None:
    """Refuse a handshake with bytes that API Star cannot decode.

    :raises BadRequest: for a query string or a header that is not UTF-8.
    """
    try:
        scope.get('query_string', b'').decode()
        for name, value in scope['headers']:
            name.decode(), value.decode()
    except UnicodeDecodeError:
        raise BadRequest('The query string and the headers have to be UTF-8') from None


# Listeners


def websocket_listener(
    url: str,
    name: Optional[str] = None,
    *,
    receives: Optional[MessageType] = None,
    sends: Optional[MessageType] = None,
    **settings: Any,
) -> Callable[[Any], Any]:
    """Make an async function a WebSocket route that is called with each message and replies what it returns.

    Decorate with it as with :func:`websocket_route`. The argument ``message`` is the message, of the type that it
    is annotated with; the others are injected once per connection. Text, bytes and a ``types.Type`` are sent as
    by ``ws.send``, other values as JSON, and for None there is no reply.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; the function's own when left out.
    :param receives: what every message is; the annotation of ``message`` when left out.
    :param sends: what every reply is; the annotation of the return value when left out.
    :param settings: what differs for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for a function or an argument that cannot work.
    """
    declaration = Declaration(url, name, True, schema(receives), schema(sends), settings, listener=True)
    return marker(declaration, 'websocket_listener')


def listen(listener: Handler, declaration: Declaration) -> Tuple[Handler, Optional[Schema], Optional[Schema]]:
    """Return the handler that calls ``listener`` for each message, and what it receives and sends."""
    signature = handler_signature(listener)
    if 'message' not in signature.parameters:
        raise ConfigurationError(
            'The listener %s needs an argument named message for the message.' % describe_handler(listener)
        )
    kind = signature.parameters['message'].annotation
    receives = declaration.receives or annotated_schema(kind)
    sends = declaration.sends or annotated_schema(signature.return_annotation)
    if receives is None and kind not in (inspect.Parameter.empty, str, bytes):
        raise ConfigurationError(
            'The listener %s annotates its message with %r: use str, bytes, a types.Type or a union or list of them, '
            'or give receives=.' % (describe_handler(listener), kind)
        )

    async def handler(*, apistar_ws_channel: WebSocket, **arguments: Any) -> None:
        ws = apistar_ws_channel
        async for message in ws:
            if kind in (str, bytes) and not isinstance(message, kind):
                raise UnsupportedMessage('Expected %s' % ('text' if kind is str else 'bytes'))
            reply = await listener(message=message, **arguments)
            if reply is not None:
                await (ws.send(reply) if sends or isinstance(reply, SENDABLE) else ws.send_json(reply))

    others = [parameter for name, parameter in signature.parameters.items() if name != 'message']
    channel = inspect.Parameter('apistar_ws_channel', inspect.Parameter.KEYWORD_ONLY, annotation=WebSocket)
    handler.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others] + [channel]
    )
    functools.update_wrapper(handler, listener, assigned=('__module__', '__name__', '__qualname__', '__doc__'))
    del handler.__wrapped__  # type: ignore[attr-defined]
    return handler, receives, sends


def annotated_schema(annotation: Any) -> Optional[Schema]:
    """Return the schema that an annotation declares: a ``types.Type``, a union or a list of them."""
    if typing.get_origin(annotation) is list and all(map(is_message_type, typing.get_args(annotation))):
        return Schema(validators.Array(items=typing.get_args(annotation)[0]))
    choices = union_members(annotation)
    if not all(map(is_message_type, choices)):
        return None
    return Schema(choices[0] if len(choices) == 1 else choices)
