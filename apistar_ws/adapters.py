"""What makes a handler of a function that is none by itself, such as a listener or a stream."""

import functools
import inspect
import typing
from typing import Any, Callable, Iterable, Optional

from apistar import validators

from apistar_ws.messages import Schema, is_message_type, union_members
from apistar_ws.websocket import WebSocket

#: What is sent as it is.
SENDABLE = (str, bytes, bytearray, memoryview)
#: The argument by which the handler gets its channel, whatever the function asks for.
CHANNEL = inspect.Parameter('apistar_ws_channel', inspect.Parameter.KEYWORD_ONLY, annotation=WebSocket)


def stand_in(handler: Any, function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> None:
    """Give ``handler`` these parameters, and the name of the function that it stands for."""
    handler.__signature__ = inspect.Signature(list(map(keyword_only, parameters)))
    functools.update_wrapper(handler, function, assigned=('__module__', '__name__', '__qualname__', '__doc__'))
    del handler.__wrapped__


def keyword_only(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return ``parameter``, to be given by its name."""
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def encode_reply(ws: WebSocket, sends: Optional[Schema], reply: Any) -> Any:
    """Return what ``reply`` is on the wire, as text or bytes, or None where there is no reply."""
    if reply is None or (sends is None and isinstance(reply, SENDABLE)):
        return reply
    return ws.settings.codec.dumps(reply if sends is None else sends.encode(reply))


def annotated_schema(annotation: Any) -> Optional[Schema]:
    """Return the schema that an annotation declares: a ``types.Type``, a union or a list of them."""
    if typing.get_origin(annotation) is list and all(map(is_message_type, typing.get_args(annotation))):
        return Schema(validators.Array(items=typing.get_args(annotation)[0]))
    choices = union_members(annotation)
    if not all(map(is_message_type, choices)):
        return None
    return Schema(choices[0] if len(choices) == 1 else choices)
