"""The types of ASGI (specification, version 3)."""

import sys
from typing import Any, Awaitable, Callable, Dict, Union

Scope = Dict[str, Any]
Message = Dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: The data of one message: text or bytes.
Data = Union[str, bytes]

if sys.version_info >= (3, 11):  # pragma: no cover
    from typing import Unpack as Unpack
else:  # pragma: no cover

    class Unpack:
        """Replaces ``typing.Unpack`` before Python 3.11, for annotations that are evaluated at run time."""

        def __class_getitem__(cls, options):
            """Return ``options``."""
            return options
