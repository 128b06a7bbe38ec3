"""What makes a handler of a function that is none by itself, such as a listener or a stream."""

import functools
import inspect
from typing import Any, Callable, Iterable

from apistar_ws.connection.websocket import WebSocket

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
