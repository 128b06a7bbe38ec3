"""Listeners and streams: handlers made from an async function per message, or from an async generator."""

import contextlib
import functools
import inspect
import typing
from typing import Any, AsyncGenerator, Callable, Iterable, List, Optional, Sequence

from apistar.exceptions import ConfigurationError

from apistar_ws.connection.websocket import WebSocket, connection_of, send_data
from apistar_ws.exceptions import UnsupportedMessage
from apistar_ws.injection.arguments import Deferred
from apistar_ws.injection.injector import Handler
from apistar_ws.injection.parameters import PRIMITIVES
from apistar_ws.injection.signatures import describe_handler, handler_signature, resolved_signature
from apistar_ws.messages.schema import MessageType, Schema
from apistar_ws.routing.decorators import Declaration, Function, TypedHandler, decorator_for
from apistar_ws.routing.replies import annotated_schema, encode_reply
from apistar_ws.settings import Options
from apistar_ws.types import Unpack

#: The argument by which the handler gets its WebSocket, even if the function has none.
_WEBSOCKET_PARAMETER = inspect.Parameter('apistar_ws_websocket', inspect.Parameter.KEYWORD_ONLY, annotation=WebSocket)


def websocket_listener(
    url: str,
    name: Optional[str] = None,
    *,
    receives: Optional[MessageType] = None,
    sends: Optional[MessageType] = None,
    per_message: Sequence[str] = (),
    documented: bool = True,
    **settings: 'Unpack[Options]',
) -> Callable[[Function], Function]:
    """Make an async function a WebSocket route: it is called with each message, and its return value is the reply.

    Use it like :func:`websocket_route`. The argument ``message`` is the message, of the type in its annotation; the
    other arguments are injected once per connection. Text, bytes and a ``types.Type`` are sent as by ``ws.send``, other
    values as JSON; None sends no reply.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; by default the name of the function.
    :param receives: the type of every message; by default the annotation of ``message``.
    :param sends: the type of every reply; by default the annotation of the return value.
    :param per_message: names of arguments that components supply again for each message, with the arguments that depend
        on them. Their resources, such as a database session, are closed before the reply is sent, and not at the end of
        the connection.
    :param documented: False to leave the route out of the AsyncAPI document and its page.
    :param settings: settings that differ for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for a function or an argument that cannot work.
    """
    if isinstance(per_message, str):
        raise ConfigurationError('websocket_listener(%r): per_message is a list of names, not a text.' % url)
    adapt = functools.partial(_make_listener, per_message=tuple(per_message))
    declaration = Declaration(url, name, settings=settings, adapt=adapt, documented=documented)
    return decorator_for(declaration, 'websocket_listener', receives, sends)


def _make_listener(listener: Handler, declaration: Declaration, per_message: Sequence[str] = ()) -> TypedHandler:
    """Return the handler that calls ``listener`` for each message, with its message types."""
    signature = handler_signature(listener)
    if 'message' not in signature.parameters:
        raise ConfigurationError(
            'The listener %s needs an argument named message for the message.' % describe_handler(listener)
        )
    kind = signature.parameters['message'].annotation
    receives = declaration.receives or _received_schema(kind, describe_handler(listener))
    sends = declaration.sends or annotated_schema(signature.return_annotation)

    async def handler(*, apistar_ws_websocket: WebSocket, **arguments: Any) -> None:
        ws = apistar_ws_websocket
        deferred: Optional[Deferred] = arguments.pop('apistar_ws_deferred', None)
        async for message in ws:
            if kind in (str, bytes) and not isinstance(message, kind):
                raise UnsupportedMessage('Expected %s' % ('text' if kind is str else 'bytes'))
            reply = None
            if deferred is None:
                reply = encode_reply(ws, sends, await listener(message=message, **arguments))
            else:
                async with deferred.resolved() as more:
                    reply = encode_reply(ws, sends, await listener(message=message, **arguments, **more))
            if reply is not None:
                await send_data(ws, reply)

    declared = resolved_signature(listener)
    repeated = _parameters_per_message(declared, per_message, describe_handler(listener))
    others = [item for name, item in declared.parameters.items() if name != 'message' and item not in repeated]
    _set_signature(handler, listener, [*others, _WEBSOCKET_PARAMETER, *_deferred_parameter(repeated)])
    return TypedHandler(handler, receives, sends)


def _parameters_per_message(
    signature: inspect.Signature, names: Sequence[str], listener: str
) -> List[inspect.Parameter]:
    """Return the parameters of a listener that are supplied again for each message.

    :raises ConfigurationError: for a name that is not a parameter, or that no component supplies.
    """
    for name in names:
        if name not in signature.parameters or name == 'message':
            raise ConfigurationError(
                'per_message names %r, which is no argument of the listener %s.' % (name, listener)
            )
        if signature.parameters[name].annotation in (*PRIMITIVES, WebSocket):
            raise ConfigurationError(
                'per_message names %r of the listener %s, which no component supplies: it is the same for each message.'
                % (name, listener)
            )
    return [signature.parameters[name] for name in names]


def _deferred_parameter(repeated: Sequence[inspect.Parameter]) -> List[inspect.Parameter]:
    """Return a list with the parameter of the handler by which it resolves ``repeated``, empty if there are none."""
    if not repeated:
        return []
    annotation = type('PerMessage', (Deferred,), {'parameters': tuple(map(_keyword_only, repeated))})
    return [inspect.Parameter('apistar_ws_deferred', inspect.Parameter.KEYWORD_ONLY, annotation=annotation)]


def _received_schema(annotation: Any, listener: str) -> Optional[Schema]:
    """Return the schema that the annotation of the message declares, or None for any text or bytes.

    :raises ConfigurationError: for an annotation that is not a message type.
    """
    declared = annotated_schema(annotation)
    if declared is None and annotation not in (inspect.Parameter.empty, str, bytes):
        raise ConfigurationError(
            'The listener %s annotates its message with %r: use str, bytes, a types.Type or a union or list of them, '
            'or give receives=.' % (listener, annotation)
        )
    return declared


def websocket_stream(
    url: str,
    name: Optional[str] = None,
    *,
    sends: Optional[MessageType] = None,
    documented: bool = True,
    **settings: 'Unpack[Options]',
) -> Callable[[Function], Function]:
    """Make an async generator a WebSocket route that sends each value it yields.

    Use it like :func:`websocket_route`. Text and bytes are sent unchanged, other values as JSON; None sends nothing.
    When the client leaves, the generator is stopped, and its ``finally`` blocks run. When it ends, the connection is
    closed with 1000. Messages from the client, such as heartbeats, count for the limits and are dropped; to receive
    messages, use a listener.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; by default the name of the function.
    :param sends: the type of every message; by default that of the annotation, such as ``AsyncIterator[Tick]``.
    :param documented: False to leave the route out of the AsyncAPI document and its page.
    :param settings: settings that differ for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for a function that is not an async generator, or an argument that cannot work.
    """
    declaration = Declaration(url, name, settings=settings, adapt=_make_stream, documented=documented)
    return decorator_for(declaration, 'websocket_stream', sends=sends, require=_require_async_generator)


def _make_stream(generator: Callable[..., AsyncGenerator[Any, None]], declaration: Declaration) -> TypedHandler:
    """Return the handler that sends the values of ``generator``, with its message types."""
    signature = handler_signature(generator)
    items = typing.get_args(signature.return_annotation)
    sends = declaration.sends or (annotated_schema(items[0]) if items else None)

    async def handler(*, apistar_ws_websocket: WebSocket, **arguments: Any) -> None:
        ws = apistar_ws_websocket
        connection_of(ws).own_ending().discards = True
        async with contextlib.aclosing(generator(**arguments)) as values:
            async for value in values:
                message = encode_reply(ws, sends, value)
                if message is not None:
                    await send_data(ws, message)

    _set_signature(handler, generator, [*resolved_signature(generator).parameters.values(), _WEBSOCKET_PARAMETER])
    return TypedHandler(handler, None, sends)


def _require_async_generator(function: Any, where: str) -> None:
    """Refuse a function that is not an async generator.

    :raises ConfigurationError: naming the function.
    """
    if not inspect.isasyncgenfunction(inspect.unwrap(getattr(function, '__func__', function))):
        raise ConfigurationError(
            '%s: %s has to be an async generator, an async def that yields what is sent.'
            % (where, describe_handler(function))
        )


def _set_signature(handler: Any, function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Give ``handler`` these parameters, and the name of the function that it calls."""
    handler.__signature__ = inspect.Signature(list(map(_keyword_only, parameters)))
    functools.update_wrapper(handler, function, assigned=('__module__', '__name__', '__qualname__', '__doc__'))
    del handler.__wrapped__


def _keyword_only(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return ``parameter`` as keyword-only."""
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
