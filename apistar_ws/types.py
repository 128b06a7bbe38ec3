"""What passes between a server and an application (ASGI specification, version 3)."""

from typing import Any, Awaitable, Callable, Dict, Union

Scope = Dict[str, Any]
Message = Dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: What one message of a WebSocket holds.
Data = Union[str, bytes]
