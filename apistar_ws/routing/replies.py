"""What a function returns or yields, as a message: by its annotation, its schema and what it is on the wire."""

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

#: What is sent as it is.
SENDABLE = (str, bytes, bytearray, memoryview)
#: What a message may be annotated with, beside API Star's types.
MESSAGES = (str, bytes, dict, list, int, float, bool)


class Returned:
    """What becomes of the values that one handler returns.

    :param handler: the handler.
    :param sends: what the route declares to send.
    """

    def __init__(self, handler: Handler, sends: Optional[Schema]) -> None:
        annotation = handler_signature(handler).return_annotation
        self._name = describe_handler(handler)
        self._is_message = is_message(annotation)
        self._sends = sends or annotated_schema(annotation)
        self._is_told = False

    async def take(self, ws: Any, value: Any) -> None:
        """Send ``value``, if it is a message and the connection is open, or say once that nobody gets it."""
        if not self._is_message:
            return self._tell(value, 'send it by ws.send(), or annotate the handler with it, as in -> dict')
        if ws.state is WebSocketState.CONNECTING:
            return self._tell(value, 'it has not called ws.connect()')
        if ws.state is WebSocketState.CLOSED:
            return self._tell(value, 'it has closed the connection before')
        # Of a client that has left nothing is said.
        if ws.state is WebSocketState.OPEN:
            await send_data(ws, encode_reply(ws, self._sends, value))

    def _tell(self, value: Any, why: str) -> None:
        if not self._is_told:
            self._is_told = True
            kind = type(value).__name__
            logger.warning('The handler %s has returned a value (%s) that was discarded: %s.', self._name, kind, why)


def is_message(annotation: Any) -> bool:
    """Return whether a return annotation says that there is a message."""
    choices = [typing.get_origin(choice) or choice for choice in union_members(annotation)]
    return bool(choices) and all(isinstance(choice, type) and is_of_json(choice) for choice in choices)


def is_of_json(kind: type) -> bool:
    """Return whether values of a class are messages; a ``TypedDict`` is a dict."""
    return issubclass(kind, MESSAGES) or is_message_type(kind)


def encode_reply(ws: WebSocket, sends: Optional[Schema], reply: Any) -> Any:
    """Return what ``reply`` is on the wire, as text or bytes, or None where there is no reply."""
    if reply is None or (sends is None and isinstance(reply, SENDABLE)):
        return reply
    codec = ws.settings.codec
    return codec.dumps(reply) if sends is None else sends.dumps(codec, reply)


def annotated_schema(annotation: Any) -> Optional[Schema]:
    """Return the schema that an annotation declares: a ``types.Type``, a union or a list of them.

    :raises ConfigurationError: for the name of a type inside of another annotation, which nobody can resolve.
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
