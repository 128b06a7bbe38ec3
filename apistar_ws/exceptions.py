"""
Exceptions of the package, and the one place that turns an exception into a close code.

    Exception
    ├── WebSocketDisconnect          the connection is over, and not by this handler
    ├── InvalidMessage               the peer sent what the handler cannot take (1007)
    │   └── UnsupportedMessage       text where bytes were asked for, or the reverse (1003)
    ├── RuntimeError
    │   └── WebSocketStateError      a call that the state of the WebSocket does not allow
    └── apistar HTTPException
        ├── UpgradeRequired          plain HTTP where only a WebSocket is served (426)
        └── ServiceUnavailable       a route with all its connections taken (503)
"""

import asyncio
import json
from typing import Any, Dict, List, Optional, Tuple, Union

from apistar import http
from apistar.exceptions import HTTPException

from apistar_ws.codes import CloseCode, fit_reason
from apistar_ws.interruption import is_cancelled

#: What a client is told of what nobody expected.
INTERNAL_ERROR = (CloseCode.INTERNAL_ERROR, 'Internal error')
Detail = Union[str, Dict[Any, Any]]


class WebSocketDisconnect(Exception):
    """Raised when the connection is over and the handler did not close it.

    Let it pass, or catch it to clean up; ``async for message in ws`` ends quietly instead.

    :param code: the close code the peer sent, or 1005, 1006 where it sent none (RFC 6455 section 7.1.5).
    :param reason: the reason that came with it, often empty.
    """

    #: What plug-ins count that read ``exc.status_code``: the handshake was answered with it.
    status_code = 101

    def __init__(self, code: int = CloseCode.NO_STATUS_RECEIVED, reason: str = '') -> None:
        self.code = int(code)
        self.reason = reason
        super().__init__('The WebSocket is disconnected (code %d%s).' % (self.code, reason and ', ' + repr(reason)))


class WebSocketStateError(RuntimeError):
    """Raised for a call that the state of the WebSocket does not allow, such as ``send`` after ``close``.

    It is a mistake of the program: correct the order of the calls.
    """


class InvalidMessage(Exception):
    """Raised by ``receive`` for a message that is not JSON or fails its declared type.

    Catch it to go on with the connection; left alone it closes with ``close_code``.

    :param detail: API Star's error detail: a sentence, or sentences by field.
    :param reason: what the close frame says; the detail, where it is one sentence, when left out.
    """

    close_code = CloseCode.INVALID_PAYLOAD
    #: What plug-ins count that read ``exc.status_code``: over HTTP it would be the answer.
    status_code = 400

    def __init__(self, detail: Detail, reason: str = '') -> None:
        self.detail = detail
        self.reason = reason or describe(detail)
        super().__init__(detail)


class UnsupportedMessage(InvalidMessage):
    """Raised by ``receive_text`` for bytes, by ``receive_bytes`` and binary-only types for text.

    Catch it to go on with the connection; left alone it closes with 1003.
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
    """Refuses a handshake on a route that has all its connections taken.

    A handler or component may raise it too (RFC 9110 section 15.6.4).
    """

    default_status_code = 503
    default_detail = 'Too many connections'
    retry_after = 5

    def get_headers(self) -> Dict[str, str]:
        """Return the header that says after how many seconds to try again."""
        return {'Retry-After': str(self.retry_after)}


def describe(detail: Detail) -> str:
    """Return API Star's error detail as one short string, fit for a close reason."""
    if isinstance(detail, str):
        return detail
    return json.dumps(detail, ensure_ascii=False, separators=(',', ':'), default=str)


def deciding_exception(exc: BaseException) -> BaseException:
    """Return the exception that decides what becomes of the connection, out of a group if need be.

    A task group wraps what its tasks raise; where one of them raised, that is meant.
    """
    inner = leaves(exc)
    failures = [item for item in inner if not isinstance(item, WebSocketDisconnect)] or inner[:1]
    return failures[0] if len(failures) == 1 else exc


def leaves(exc: BaseException) -> List[BaseException]:
    """Return the exceptions in a group and in the groups in it, or ``exc`` itself if it is no group."""
    inner = getattr(exc, 'exceptions', None)
    if not isinstance(inner, tuple) or not all(isinstance(item, BaseException) for item in inner):
        return [exc]
    return [leaf for item in inner for leaf in leaves(item)]


def is_answer(exc: BaseException) -> bool:
    """Tell whether ``exc`` is an ``HTTPException`` whose status can be told to a client, as a close code."""
    return isinstance(exc, HTTPException) and 100 <= exc.status_code <= 999


def close_for_response(response: http.Response, exc: Optional[BaseException] = None) -> Tuple[int, str]:
    """Return the close code and reason that tell the peer of a response, for which a close frame has no room.

    :param exc: what the response stands for; it may have a close code of its own.
    :raises ValueError: for a status outside 100 to 999.
    """
    if not 100 <= response.status_code <= 999:
        raise ValueError('A connection cannot be closed with the status %r.' % response.status_code)
    is_of_exc = isinstance(exc, HTTPException) and exc.status_code == response.status_code
    return close_code_of(exc if is_of_exc else None, response.status_code), fit_reason(reason_in(response))


def close_code_of(exc: Optional[BaseException], status: int) -> int:
    """Return the close code that stands for a status: 4000 more, unless the exception says itself what it is."""
    code: int = getattr(exc, 'close_code', 4000 + status)
    return code


def reason_in(response: http.Response) -> str:
    """Return what a response says in JSON: a text as it is, anything else compact; nothing for other media."""
    media = response.headers.get('content-type', '').split(';')[0].strip().lower()
    if media != 'application/json' and not media.endswith('+json'):
        return ''
    try:
        return describe(json.loads(response.content))
    except ValueError:
        return ''


def close_for(exc: BaseException) -> Tuple[int, str]:
    """Return the close code and reason that tell the peer of ``exc``, which ended the handler.

    With ``close_for_response`` the only place of this decision; no reason holds the text of an unexpected exception.
    """
    exc = deciding_exception(exc)
    if isinstance(exc, HTTPException) and is_answer(exc):
        return close_code_of(exc, exc.status_code), fit_reason(describe(exc.detail))
    if isinstance(exc, InvalidMessage):
        return exc.close_code, fit_reason(exc.reason)
    if isinstance(exc, asyncio.CancelledError) and is_cancelled():
        return CloseCode.SERVICE_RESTART, ''
    return INTERNAL_ERROR
