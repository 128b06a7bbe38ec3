"""The decorator that makes a handler a WebSocket route, and the declarations of decorators."""

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

#: For a type checker, a decorated function has the type of the undecorated one.
Function = TypeVar('Function', bound=Callable[..., Any])


class TypedHandler(NamedTuple):
    """A handler, and the schemas of the messages that it receives and sends."""

    handler: Handler
    receives: Optional[Schema]
    sends: Optional[Schema]


class Declaration(NamedTuple):
    """The arguments of a decorator for one route."""

    url: str
    name: Optional[str] = None
    #: Whether the handler is connected before it runs.
    connect: bool = True
    receives: Optional[Schema] = None
    sends: Optional[Schema] = None
    settings: Mapping[str, Any] = {}
    #: Makes a handler from another kind of function, such as a listener.
    adapt: Optional[Callable[[Any, 'Declaration'], TypedHandler]] = None
    #: Whether the route is in the AsyncAPI document.
    documented: bool = True
    #: The name of the decorator.
    decorator: str = ''

    def typed_handler(self, function: Handler) -> TypedHandler:
        """Return the handler for the decorated function, with its message types."""
        if self.adapt is not None:
            return self.adapt(function, self)
        return TypedHandler(function, self.receives, self.sends)


#: The declaration of a plain ``Route``, whose handler calls ``connect`` itself.
_PLAIN_ROUTE = Declaration(url='', connect=False)


class BoundWebSocketHandler(wrapt.BoundFunctionWrapper):  # type: ignore[misc]
    """A decorated method, bound to its object."""

    @property
    def declarations(self) -> Tuple[Declaration, ...]:
        """The declarations of the decorators, the upper one first."""
        declared: Tuple[Declaration, ...] = self._self_parent.declarations
        return declared


class WebSocketHandler(wrapt.FunctionWrapper):  # type: ignore[misc]
    """A decorated handler: one route for each decorator; to all other code the handler is unchanged.

    Called with a WebSocket that is not connected yet, as in a unit test, it connects before and closes after.
    """

    __bound_function_wrapper__ = BoundWebSocketHandler

    def __init__(self, handler: Any, declarations: Tuple[Declaration, ...]) -> None:
        super().__init__(handler, _call_wrapper(declarations[0]))
        self._self_declarations = declarations

    @property
    def declarations(self) -> Tuple[Declaration, ...]:
        """The declarations of the decorators, the upper one first."""
        return self._self_declarations


def _call_wrapper(declaration: Declaration) -> Callable[..., Any]:
    """Return wrapt's wrapper for a handler: it connects before the call and closes after it, if necessary."""
    connects = declaration.connect and declaration.adapt is None

    def call(handler: Handler, instance: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        for argument in (*args, *kwargs.values()):
            if isinstance(argument, WebSocket) and argument.state is WebSocketState.CONNECTING and connects:
                return _call_connected(argument, handler, args, kwargs)
        return handler(*args, **kwargs)

    return call


async def _call_connected(ws: WebSocket, handler: Handler, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Connect, call the handler, close whether or not it raises, and return its value."""
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

    Put it above all other decorators, and pass the handler to :func:`collect_routes`. Several of them make several
    routes for one handler.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; by default the name of the handler.
    :param connect: False for a handler that calls ``ws.connect()`` itself, to choose a subprotocol, send
        headers, or refuse.
    :param receives: the type of every message from the client: a ``types.Type``, a validator, or a list of types.
    :param sends: the type of every message to the client, likewise.
    :param documented: False to leave the route out of the AsyncAPI document and its page.
    :param settings: settings that differ for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for a handler or an argument that cannot work.
    """
    declaration = Declaration(url, name, connect, settings=settings, documented=documented)
    return decorator_for(declaration, 'websocket_route', receives, sends)


def decorator_for(
    declaration: Declaration,
    decorator: str,
    receives: Optional[MessageType] = None,
    sends: Optional[MessageType] = None,
    require: Optional[Callable[[Any, str], None]] = None,
) -> Callable[[Any], Any]:
    """Return the decorator that adds ``declaration`` to a handler, after checking both.

    :param declaration: the arguments of the decorator.
    :param decorator: the name of the decorator.
    :param receives: the type of every message from the client.
    :param sends: the type of every message to the client.
    :param require: checks the decorated function; by default that it is an ``async def``.
    :raises ConfigurationError: for a declaration or a handler that cannot work.
    """
    if callable(declaration.url):
        raise ConfigurationError(
            "@%s needs its URL in parentheses, such as @%s('/chat/{room}'), above %s."
            % (decorator, decorator, describe_handler(declaration.url))
        )
    where = '%s(%r)' % (decorator, declaration.url)
    if not isinstance(declaration.url, str) or not declaration.url.startswith('/'):
        raise ConfigurationError("%s: the URL has to begin with a slash, such as '/chat/{room}'." % where)
    check_settings(declaration.settings, where)

    def decorate(handler: Any) -> Any:
        (require or require_coroutine_function)(handler, where)
        _refuse_interleaved(handler, where)
        _refuse_mixed(handler, decorator, where)
        declared = declaration._replace(
            decorator=decorator,
            receives=_schema_for(receives, handler, '%s: receives=' % where),
            sends=_schema_for(sends, handler, '%s: sends=' % where),
        )
        if not is_decorated(handler):
            return WebSocketHandler(handler, (declared,))
        return WebSocketHandler(handler.__wrapped__, (declared, *handler.declarations))

    return decorate


def _schema_for(declared: Optional[MessageType], handler: Any, where: str) -> Optional[Schema]:
    """Return the schema of a message type that is declared for ``handler``, or None.

    :raises ConfigurationError: for a value that is not a message type, naming the handler.
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


def _refuse_interleaved(handler: Any, where: str) -> None:
    """Refuse a decorator between two of this package: if it is a guard, it would guard only one of the two routes.

    :raises ConfigurationError: naming the handler.
    """
    below = list(wrapped_chain(handler))[1:]
    if any(is_decorated(inner) for inner in below):
        raise ConfigurationError(
            '%s: there is a decorator between this one and another websocket_route on %s. It would guard one of the '
            'two routes only: put it below both.' % (where, describe_handler(handler))
        )


def _refuse_mixed(handler: Any, decorator: str, where: str) -> None:
    """Refuse two kinds of decorators on one function: it is either a handler, a listener or a stream.

    :raises ConfigurationError: naming the handler.
    """
    below = handler.declarations[0].decorator if is_decorated(handler) else decorator
    if below != decorator:
        raise ConfigurationError(
            '%s: %s has the decorator %s already, and a function for one cannot be used for the other. Use %s for both '
            'URLs, or write two functions.' % (where, describe_handler(handler), below, below)
        )


# Collecting


def is_decorated(value: Any) -> bool:
    """Return whether ``value`` is a decorated handler."""
    return isinstance(value, (WebSocketHandler, BoundWebSocketHandler))


def wrapped_chain(value: Any) -> Iterator[Any]:
    """Yield ``value`` and the functions that it wraps, from the outside in."""
    while value is not None:
        yield value
        value = getattr(value, '__wrapped__', None)


def declaration_for(handler: Any, url: str) -> Declaration:
    """Return the declaration of the decorator whose route ``handler`` serves at ``url``.

    A route that a plug-in has made from a route of this package may have a prefix in its URL.

    :raises ConfigurationError: if no decorator has that URL.
    """
    if not is_decorated(handler):
        return _PLAIN_ROUTE
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
    """Return the function below the decorators, bound like the handler."""
    return handler.__wrapped__ if is_decorated(handler) else handler
