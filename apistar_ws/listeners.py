"""Listeners: an async function that is called with each message, made a handler."""

import functools
import inspect
import typing
from typing import Any, Callable, Optional

from apistar import types, validators
from apistar.exceptions import ConfigurationError

from apistar_ws.exceptions import UnsupportedMessage
from apistar_ws.injection import Handler
from apistar_ws.messages import MessageType, Schema, is_message_type, union_members
from apistar_ws.routes import Declaration, Serving, marker, schema
from apistar_ws.signatures import describe_handler, handler_signature
from apistar_ws.websocket import WebSocket

#: What a listener may reply that is no JSON by itself.
SENDABLE = (str, bytes, bytearray, memoryview, types.Type)


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
    declaration = Declaration(url, name, True, schema(receives), schema(sends), settings, listen)
    return marker(declaration, 'websocket_listener')


def listen(listener: Handler, declaration: Declaration) -> Serving:
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
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others]
    handler.__signature__ = inspect.Signature([*keywords, channel])  # type: ignore[attr-defined]
    functools.update_wrapper(handler, listener, assigned=('__module__', '__name__', '__qualname__', '__doc__'))
    del handler.__wrapped__  # type: ignore[attr-defined]
    return Serving(handler, receives, sends)


def annotated_schema(annotation: Any) -> Optional[Schema]:
    """Return the schema that an annotation declares: a ``types.Type``, a union or a list of them."""
    if typing.get_origin(annotation) is list and all(map(is_message_type, typing.get_args(annotation))):
        return Schema(validators.Array(items=typing.get_args(annotation)[0]))
    choices = union_members(annotation)
    if not all(map(is_message_type, choices)):
        return None
    return Schema(choices[0] if len(choices) == 1 else choices)
