"""Streams: an async generator whose values are sent, made a handler."""

import contextlib
import inspect
import typing
from typing import Any, AsyncGenerator, Callable, Optional

from apistar.exceptions import ConfigurationError

from apistar_ws.connection.websocket import WebSocket, connection_of, send_data
from apistar_ws.injection.signatures import describe_handler, handler_signature, resolved_signature
from apistar_ws.messages.schema import MessageType
from apistar_ws.routing.adapters import CHANNEL, stand_in
from apistar_ws.routing.decorators import Declaration, Function, Serving, marker
from apistar_ws.routing.replies import annotated_schema, encode_reply
from apistar_ws.settings import Options
from apistar_ws.types import Unpack


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
        connection_of(ws).discards = True
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
