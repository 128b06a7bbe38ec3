"""Returned and yielded values as messages: annotations, schemas and encoding."""

import logging
import typing
from typing import Any, Optional

from apistar import validators
from apistar.exceptions import ConfigurationError

from apistar_ws.connection.state import WebSocketState
from apistar_ws.connection.websocket import WebSocket, send_data
from apistar_ws.injection.injector import Handler
from apistar_ws.injection.signatures import describe_handler, handler_signature
from apistar_ws.messages.schema import Schema, union_members
from apistar_ws.messages.validation import is_message_type

logger = logging.getLogger('apistar_ws')

#: Types of values that are sent unchanged.
_RAW_TYPES = (str, bytes, bytearray, memoryview)
#: Types that a return annotation may have for a message, beside API Star's types.
_MESSAGE_CLASSES = (str, bytes, dict, list, int, float, bool)


class ReturnedValues:
    """The handling of the values that one handler returns.

    :param handler: the handler.
    :param sends: the type of message that the route declares to send.
    """

    def __init__(self, handler: Handler, sends: Optional[Schema]) -> None:
        annotation = handler_signature(handler).return_annotation
        self._name = describe_handler(handler)
        self._is_message = is_message(annotation)
        self._sends = sends or annotated_schema(annotation)
        self._has_warned = False

    async def handle(self, ws: Any, value: Any) -> None:
        """Send ``value`` if it is a message and the connection is open; otherwise log once that it was discarded."""
        if not self._is_message:
            return self._warn(value, 'send it by ws.send(), or annotate the handler with it, as in -> dict')
        if ws.state is WebSocketState.CONNECTING:
            return self._warn(value, 'it has not called ws.connect()')
        if ws.state is WebSocketState.CLOSED:
            return self._warn(value, 'it has closed the connection before')
        # If the client has left, nothing is logged.
        if ws.state is WebSocketState.OPEN:
            await send_data(ws, encode_reply(ws, self._sends, value))

    def _warn(self, value: Any, why: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            kind = type(value).__name__
            logger.warning('The handler %s has returned a value (%s) that was discarded: %s.', self._name, kind, why)


def is_message(annotation: Any) -> bool:
    """Return whether a return annotation is that of a message."""
    choices = [typing.get_origin(choice) or choice for choice in union_members(annotation)]
    return bool(choices) and all(isinstance(choice, type) and _is_message_class(choice) for choice in choices)


def _is_message_class(kind: type) -> bool:
    """Return whether instances of a class are messages; those of a ``TypedDict`` are dicts."""
    return issubclass(kind, _MESSAGE_CLASSES) or is_message_type(kind)


def encode_reply(ws: WebSocket, sends: Optional[Schema], reply: Any) -> Any:
    """Return ``reply`` as text or bytes, or None if there is no reply."""
    if reply is None or (sends is None and isinstance(reply, _RAW_TYPES)):
        return reply
    codec = ws.settings.codec
    return codec.dumps(reply) if sends is None else sends.dumps(codec, reply)


def annotated_schema(annotation: Any) -> Optional[Schema]:
    """Return the schema that an annotation declares: a ``types.Type``, a union or a list of them.

    :raises ConfigurationError: for the name of a type inside another annotation, which cannot be resolved.
    """
    choices = union_members(annotation)
    items = [item for choice in choices for item in typing.get_args(choice)]
    if any(isinstance(item, typing.ForwardRef) for item in (*choices, *items)):
        raise ConfigurationError(
            'The annotation %r holds the name of a type, as text: put all of it in quotes, or none.' % (annotation,)
        )
    if len(choices) == 1 and typing.get_origin(choices[0]) is list and items and all(map(is_message_type, items)):
        return Schema(validators.Array(items=items[0]))
    if not choices or not all(map(is_message_type, choices)):
        return None
    return Schema(choices[0] if len(choices) == 1 else choices)
