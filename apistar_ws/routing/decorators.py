"""The decorator that makes a handler a WebSocket route, and what collects the routes."""

import inspect
from typing import (
    Any,
    Callable,
    Iterator,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)

import wrapt
from apistar.exceptions import ConfigurationError

from apistar_ws.connection.state import WebSocketState
from apistar_ws.connection.websocket import WebSocket
from apistar_ws.injection.injector import Handler
from apistar_ws.injection.signatures import describe_handler
from apistar_ws.messages.schema import MessageType, Schema
from apistar_ws.outcomes import outcome_of
from apistar_ws.settings import Options, check_settings
from apistar_ws.types import Unpack

#: A decorated function is, to a type checker, what it was.
Function = TypeVar('Function', bound=Callable[..., Any])


class Serving(NamedTuple):
    """What serves a connection of a route: a handler, and what it receives and sends."""

    handler: Handler
    receives: Optional[Schema]
    sends: Optional[Schema]


class Declaration(NamedTuple):
    """What a decorator says of a function."""

    url: str
    name: Optional[str] = None
    #: Whether the handler is connected before it runs.
    connect: bool = True
    receives: Optional[Schema] = None
    sends: Optional[Schema] = None
    settings: Mapping[str, Any] = {}
    #: Makes a handler of a function that is none by itself, such as a listener.
    adapt: Optional[Callable[[Any, 'Declaration'], Serving]] = None
    #: Whether the document of the application has it.
    documented: bool = True
    #: The name of the decorator.
    decorator: str = ''

    def serving(self, function: Handler) -> Serving:
        """Return what serves a connection, given the decorated function."""
        if self.adapt is not None:
            return self.adapt(function, self)
        return Serving(function, self.receives, self.sends)


#: What a plain ``Route`` says, whose handler connects by itself.
UNDECORATED = Declaration(url='', connect=False)


class BoundWebSocketHandler(wrapt.BoundFunctionWrapper):  # type: ignore[misc]
    """A decorated method, bound to its object."""

    @property
    def declarations(self) -> Tuple[Declaration, ...]:
        """What the decorators said, the upper one first."""
        declared: Tuple[Declaration, ...] = self._self_parent.declarations
        return declared


class WebSocketHandler(wrapt.FunctionWrapper):  # type: ignore[misc]
    """A decorated handler: to everybody else what it was, and to the application one route for each decorator.

    Called with a WebSocket that is not connected yet, as in a unit test, it connects before and closes after.
    """

    __bound_function_wrapper__ = BoundWebSocketHandler

    def __init__(self, handler: Any, declarations: Tuple[Declaration, ...]) -> None:
        super().__init__(handler, call_handler(declarations[0]))
        self._self_declarations = declarations

    @property
    def declarations(self) -> Tuple[Declaration, ...]:
        """What the decorators said, the upper one first."""
        return self._self_declarations


def call_handler(declaration: Declaration) -> Callable[..., Any]:
    """Return wrapt's wrapper for a handler: the call as it was, in connect and close where they are missing."""

    connects = declaration.connect and declaration.adapt is None

    def call(handler: Handler, instance: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, WebSocket) and argument.state is WebSocketState.CONNECTING and connects:
                return conduct(argument, handler, args, kwargs)
        return handler(*args, **kwargs)

    return call


async def conduct(ws: WebSocket, handler: Handler, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Connect, return what a handler returns that was called by hand, and close, also when it raises."""
    await ws.connect()
    try:
        returned = await handler(*args, **kwargs)
    except BaseException as exc:
        await ws.close(*outcome_of(exc))
        raise
    await ws.close()
    return returned


def websocket_route(
    url: str,
    name: Optional[str] = None,
    *,
    connect: bool = True,
    receives: Optional[MessageType] = None,
    sends: Optional[MessageType] = None,
    documented: bool = True,
    **settings: 'Unpack[Options]',
) -> Callable[[Function], Function]:
    """Make an async handler a WebSocket route, connected before it runs and closed after it.

    Decorate with it, above all other decorators, and hand the handler to :func:`collect_routes`; several of
    them make several routes of one handler.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; the handler's own when left out.
    :param connect: False for a handler that calls ``ws.connect()`` itself, to choose a subprotocol, send
        headers, or refuse.
    :param receives: what every message from the client is: a ``types.Type``, a validator, or a list of types.
    :param sends: what every message to the client is, likewise.
    :param documented: False to leave the route out of the AsyncAPI document and its page.
    :param settings: what differs for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for a handler or an argument that cannot work.
    """
    declaration = Declaration(url, name, connect, settings=settings, documented=documented)
    return marker(declaration, 'websocket_route', receives, sends)


def marker(
    declaration: Declaration,
    decorator: str,
    receives: Optional[MessageType] = None,
    sends: Optional[MessageType] = None,
    require: Optional[Callable[[Any, str], None]] = None,
) -> Callable[[Any], Any]:
    """Return the decorator that marks a handler with ``declaration``, once both are checked; ``require`` checks it."""
    if callable(declaration.url):
        raise ConfigurationError(
            "@%s needs its URL in parentheses, such as @%s('/chat/{room}'), above %s."
            % (decorator, decorator, describe_handler(declaration.url))
        )
    where = '%s(%r)' % (decorator, declaration.url)
    if not isinstance(declaration.url, str) or not declaration.url.startswith('/'):
        raise ConfigurationError("%s: the URL has to begin with a slash, such as '/chat/{room}'." % where)
    check_settings(declaration.settings, where)

    def mark(handler: Any) -> Any:
        (require or require_coroutine_function)(handler, where)
        refuse_between(handler, where)
        refuse_mixed(handler, decorator, where)
        declared = declaration._replace(
            decorator=decorator,
            receives=schema(receives, handler, '%s: receives=' % where),
            sends=schema(sends, handler, '%s: sends=' % where),
        )
        if not is_marked(handler):
            return WebSocketHandler(handler, (declared,))
        return WebSocketHandler(handler.__wrapped__, (declared, *handler.declarations))

    return mark


def schema(declared: Optional[MessageType], handler: Any, where: str) -> Optional[Schema]:
    """Return the schema of a message type that is declared for ``handler``, if one is declared.

    :raises ConfigurationError: for what is no message type, naming the handler.
    """
    try:
        return None if declared is None else Schema(declared)
    except ConfigurationError as exc:
        raise ConfigurationError('%s of %s: %s' % (where, describe_handler(handler), exc)) from None


def require_coroutine_function(handler: Any, where: str) -> None:
    """Refuse a handler that is not an ``async def``.

    :raises ConfigurationError: naming the handler.
    """
    function = inspect.unwrap(getattr(handler, '__func__', handler))
    if not hasattr(handler, '__name__'):
        raise ConfigurationError('%s: %r has no name; decorate an async def.' % (where, handler))
    if inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            '%s: %s is an async generator; a handler sends by ws.send() and does not yield, websocket_stream does.'
            % (where, describe_handler(handler))
        )
    if not inspect.iscoroutinefunction(function):
        raise ConfigurationError('%s: %s has to be an async def.' % (where, describe_handler(handler)))


def refuse_between(handler: Any, where: str) -> None:
    """Refuse a decorator between two of ours: it may be a guard, and one of the two routes would go without it.

    :raises ConfigurationError: naming the handler.
    """
    below = list(wrapped_chain(handler))[1:]
    if any(is_marked(inner) for inner in below):
        raise ConfigurationError(
            '%s: there is a decorator between this one and another websocket_route on %s. It would guard one of the '
            'two routes only: put it below both.' % (where, describe_handler(handler))
        )


def refuse_mixed(handler: Any, decorator: str, where: str) -> None:
    """Refuse two kinds of decorators on one function: it is a handler, a listener or a stream, and cannot be two.

    :raises ConfigurationError: naming the handler.
    """
    below = handler.declarations[0].decorator if is_marked(handler) else decorator
    if below != decorator:
        raise ConfigurationError(
            '%s: %s has the decorator %s already, and a function for one cannot be used for the other. Use %s for both '
            'URLs, or write two functions.' % (where, describe_handler(handler), below, below)
        )


# Collecting


def is_marked(value: Any) -> bool:
    """Return whether ``value`` is a decorated handler."""
    return isinstance(value, (WebSocketHandler, BoundWebSocketHandler))


def wrapped_chain(value: Any) -> Iterator[Any]:
    """Yield ``value`` and what it wraps, from the outside in."""
    while value is not None:
        yield value
        value = getattr(value, '__wrapped__', None)


def declaration_for(handler: Any, url: str) -> Declaration:
    """Return what the decorator said whose route ``handler`` serves at ``url``.

    A route that somebody else has made of ours, such as a plug-in, may have a prefix in its URL.

    :raises ConfigurationError: if that cannot be told.
    """
    if not is_marked(handler):
        return UNDECORATED
    declarations: Tuple[Declaration, ...] = handler.declarations
    candidates = [declared for declared in declarations if declared.url == url]
    candidates += sorted(
        (declared for declared in declarations if url.endswith(declared.url)), key=lambda declared: -len(declared.url)
    )
    if not candidates and len(declarations) > 1:
        raise ConfigurationError(
            'The route %r of %s has the URL of none of its decorators: they say %s.'
            % (url, describe_handler(handler), ', '.join(declared.url for declared in declarations))
        )
    return (candidates or declarations)[0]


def bare_handler(handler: Any) -> Any:
    """Return what the decorators were put on, bound as the handler is."""
    return handler.__wrapped__ if is_marked(handler) else handler
