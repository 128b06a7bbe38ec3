"""
Exceptions of the package.

    Exception
    ├── WebSocketDisconnect          the connection is over, not by this handler
    ├── InvalidMessage               the peer sent an invalid message (1007)
    │   └── UnsupportedMessage       text instead of bytes, or the reverse (1003)
    ├── RuntimeError
    │   └── WebSocketStateError      a call that the state of the WebSocket does not allow
    └── apistar HTTPException
        ├── UpgradeRequired          plain HTTP where only a WebSocket is served (426)
        └── ServiceUnavailable       a route that is full (503)
"""

import json
from typing import Any, Dict, List, Union

from apistar.exceptions import HTTPException

from apistar_ws.codes import CloseCode

Detail = Union[str, Dict[Any, Any]]


class WebSocketDisconnect(Exception):
    """Raised when the connection is over and the handler did not close it.

    Let it pass, or catch it to clean up; ``async for message in ws`` ends without it.

    :param code: the close code the peer sent, or 1005, 1006 where it sent none (RFC 6455 section 7.1.5).
    :param reason: the reason that came with it, often empty.
    """

    #: For plug-ins that read ``exc.status_code``: the handshake was answered with it.
    status_code = 101

    def __init__(self, code: int = CloseCode.NO_STATUS_RECEIVED, reason: str = '') -> None:
        self.code = int(code)
        self.reason = reason
        super().__init__('The WebSocket is disconnected (code %d%s).' % (self.code, reason and ', ' + repr(reason)))


class WebSocketStateError(RuntimeError):
    """Raised for a call that the state of the WebSocket does not allow, such as ``send`` after ``close``.

    It is a programming error: correct the order of the calls.
    """


class InvalidMessage(Exception):
    """Raised by ``receive`` for a message that is not JSON or fails its declared type.

    Catch it to continue; otherwise the connection is closed with ``close_code``.

    :param detail: API Star's error detail: a sentence, or sentences by field.
    :param reason: the close reason; by default the detail.
    """

    close_code = CloseCode.INVALID_PAYLOAD
    #: For plug-ins that read ``exc.status_code``: the status over HTTP.
    status_code = 400

    def __init__(self, detail: Detail, reason: str = '') -> None:
        self.detail = detail
        self.reason = reason or describe_detail(detail)
        super().__init__(detail)


class UnsupportedMessage(InvalidMessage):
    """Raised by ``receive_text`` for bytes, by ``receive_bytes`` and binary-only types for text.

    Catch it to continue; otherwise the connection is closed with 1003.
    """

    close_code = CloseCode.UNSUPPORTED_DATA


class UpgradeRequired(HTTPException):  # type: ignore[misc]
    """Answers a plain HTTP request on a path that only a WebSocket serves.

    Raised by the router of the application (RFC 9110 section 15.5.22).
    """

    default_status_code = 426
    default_detail = 'Upgrade to WebSocket required, on an ASGI server such as uvicorn'

    def get_headers(self) -> Dict[str, str]:
        """Return the header that names the protocol to upgrade to."""
        return {'Upgrade': 'websocket', 'Connection': 'Upgrade'}


class ServiceUnavailable(HTTPException):  # type: ignore[misc]
    """Denies a handshake on a route that is full.

    A handler or component may raise it too (RFC 9110 section 15.6.4).
    """

    default_status_code = 503
    default_detail = 'Too many connections'
    retry_after = 5

    def get_headers(self) -> Dict[str, str]:
        """Return the header with the seconds after which to try again."""
        return {'Retry-After': str(self.retry_after)}


def describe_detail(detail: Detail) -> str:
    """Return API Star's error detail as one short string, fit for a close reason."""
    if isinstance(detail, str):
        return detail
    return json.dumps(detail, ensure_ascii=False, separators=(',', ':'), default=str)


def leaf_exceptions(exc: BaseException) -> List[BaseException]:
    """Return the exceptions in a group and in the groups in it, or ``exc`` itself if it is not a group."""
    leaves: List[BaseException] = []
    seen = set()
    waiting = [exc]
    while waiting:
        found = waiting.pop()
        inner = getattr(found, 'exceptions', None)
        if not isinstance(inner, tuple) or not all(isinstance(item, BaseException) for item in inner):
            leaves.append(found)
        elif id(found) not in seen:
            seen.add(id(found))
            waiting += reversed(inner)
    return leaves or [exc]
