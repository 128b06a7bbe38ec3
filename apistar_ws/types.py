"""What passes between a server and an application (ASGI specification, version 3)."""

import sys
from typing import Any, Awaitable, Callable, Dict, Union

Scope = Dict[str, Any]
Message = Dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: What one message of a WebSocket holds.
Data = Union[str, bytes]

if sys.version_info >= (3, 11):  # pragma: no cover
    from typing import Unpack as Unpack
else:  # pragma: no cover

    class Unpack:
        """Stands for the one of later versions, where annotations are looked at while the program runs."""

        def __class_getitem__(cls, options):
            """Return ``options``."""
            return options
