"""Listeners and streams: handlers made of an async function for each message, or of an async generator."""

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
from apistar_ws.routing.decorators import Declaration, Function, Serving, marker
from apistar_ws.routing.replies import annotated_schema, encode_reply
from apistar_ws.settings import Options
from apistar_ws.types import Unpack

#: The argument by which the handler gets its channel, whatever the function asks for.
CHANNEL = inspect.Parameter('apistar_ws_channel', inspect.Parameter.KEYWORD_ONLY, annotation=WebSocket)


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
    """Make an async function a WebSocket route that is called with each message and replies what it returns.

    Decorate with it as with :func:`websocket_route`. The argument ``message`` is the message, of the type that it
    is annotated with; the others are injected once per connection. Text, bytes and a ``types.Type`` are sent as
    by ``ws.send``, other values as JSON, and for None there is no reply.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; the function's own when left out.
    :param receives: what every message is; the annotation of ``message`` when left out.
    :param sends: what every reply is; the annotation of the return value when left out.
    :param per_message: names of arguments that components supply anew for each message, with all that depends on
        them. What they have opened is closed when the function has returned and its reply is encoded, before that is
        sent: a session of a database is not held for as long as a client stays.
    :param documented: False to leave the route out of the AsyncAPI document and its page.
    :param settings: what differs for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for a function or an argument that cannot work.
    """
    if isinstance(per_message, str):
        raise ConfigurationError('websocket_listener(%r): per_message is a list of names, not a text.' % url)
    adapt = functools.partial(listen, per_message=tuple(per_message))
    declaration = Declaration(url, name, settings=settings, adapt=adapt, documented=documented)
    return marker(declaration, 'websocket_listener', receives, sends)


def listen(listener: Handler, declaration: Declaration, per_message: Sequence[str] = ()) -> Serving:
    """Return the handler that calls ``listener`` for each message, and what it receives and sends."""
    signature = handler_signature(listener)
    if 'message' not in signature.parameters:
        raise ConfigurationError(
            'The listener %s needs an argument named message for the message.' % describe_handler(listener)
        )
    kind = signature.parameters['message'].annotation
    receives = declaration.receives or received_schema(kind, describe_handler(listener))
    sends = declaration.sends or annotated_schema(signature.return_annotation)

    async def handler(*, apistar_ws_channel: WebSocket, **arguments: Any) -> None:
        ws = apistar_ws_channel
        deferred: Optional[Deferred] = arguments.pop('apistar_ws_deferred', None)
        async for message in ws:
            if kind in (str, bytes) and not isinstance(message, kind):
                raise UnsupportedMessage('Expected %s' % ('text' if kind is str else 'bytes'))
            if deferred is None:
                reply = encode_reply(ws, sends, await listener(message=message, **arguments))
            else:
                async with deferred.resolved() as more:
                    reply = encode_reply(ws, sends, await listener(message=message, **arguments, **more))
            if reply is not None:
                await send_data(ws, reply)

    asked_for = resolved_signature(listener)
    later = parameters_per_message(asked_for, per_message, describe_handler(listener))
    now = [item for name, item in asked_for.parameters.items() if name != 'message' and item not in later]
    stand_in(handler, listener, [*now, CHANNEL, *deferred_parameters(later)])
    return Serving(handler, receives, sends)


def parameters_per_message(
    signature: inspect.Signature, names: Sequence[str], listener: str
) -> List[inspect.Parameter]:
    """Return the parameters of a listener that are supplied anew for each message.

    :raises ConfigurationError: for a name that none has, or of one that no component supplies.
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


def deferred_parameters(later: Sequence[inspect.Parameter]) -> List[inspect.Parameter]:
    """Return what the handler of a listener asks for, to have the parameters of ``later`` for each message."""
    if not later:
        return []
    deferred = type('PerMessage', (Deferred,), {'parameters': tuple(map(keyword_only, later))})
    return [inspect.Parameter('apistar_ws_deferred', inspect.Parameter.KEYWORD_ONLY, annotation=deferred)]


def received_schema(annotation: Any, listener: str) -> Optional[Schema]:
    """Return the schema that the annotation of the message declares, or None for any text or bytes.

    :raises ConfigurationError: for an annotation that no message can be.
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
    """Make an async generator a WebSocket route that sends what it yields.

    Decorate with it as with :func:`websocket_route`. Text and bytes are sent as they are, other values as JSON, and for
    None nothing is sent. When the client leaves, the generator is stopped where it is: its ``finally`` blocks run. When
    it ends, the connection is closed with 1000. What the client sends, such as heartbeats, is counted by the limits and
    dropped; a listener is for messages.

    :param url: the path, with parameters in braces as in every route of API Star.
    :param name: the name of the route, for ``reverse_url``; the function's own when left out.
    :param sends: what every message is; the annotation when left out, ``AsyncIterator[Tick]``.
    :param documented: False to leave the route out of the AsyncAPI document and its page.
    :param settings: what differs for this route; see :class:`apistar_ws.Settings`.
    :raises ConfigurationError: for what is no async generator, or an argument that cannot work.
    """
    declaration = Declaration(url, name, settings=settings, adapt=stream, documented=documented)
    return marker(declaration, 'websocket_stream', sends=sends, require=require_async_generator)


def stream(generator: Callable[..., AsyncGenerator[Any, None]], declaration: Declaration) -> Serving:
    """Return the handler that sends what ``generator`` yields, and what it sends."""
    signature = handler_signature(generator)
    items = typing.get_args(signature.return_annotation)
    sends = declaration.sends or (annotated_schema(items[0]) if items else None)

    async def handler(*, apistar_ws_channel: WebSocket, **arguments: Any) -> None:
        ws = apistar_ws_channel
        connection_of(ws).own_ending().discards = True
        async with contextlib.aclosing(generator(**arguments)) as values:
            async for value in values:
                message = encode_reply(ws, sends, value)
                if message is not None:
                    await send_data(ws, message)

    stand_in(handler, generator, [*resolved_signature(generator).parameters.values(), CHANNEL])
    return Serving(handler, None, sends)


def require_async_generator(function: Any, where: str) -> None:
    """Refuse what is no async generator.

    :raises ConfigurationError: naming the function.
    """
    if not inspect.isasyncgenfunction(inspect.unwrap(getattr(function, '__func__', function))):
        raise ConfigurationError(
            '%s: %s has to be an async generator, an async def that yields what is sent.'
            % (where, describe_handler(function))
        )


def stand_in(handler: Any, function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Give ``handler`` these parameters, and the name of the function that it stands for."""
    handler.__signature__ = inspect.Signature(list(map(keyword_only, parameters)))
    functools.update_wrapper(handler, function, assigned=('__module__', '__name__', '__qualname__', '__doc__'))
    del handler.__wrapped__


def keyword_only(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return ``parameter``, to be given by its name."""
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
