"""The one place that decides the close code and reason after a handler."""

import asyncio
import json
from typing import NamedTuple, Optional

from apistar import http
from apistar.exceptions import HTTPException

from apistar_ws.codes import CloseCode, fit_reason
from apistar_ws.exceptions import InvalidMessage, WebSocketDisconnect, describe_detail, leaf_exceptions
from apistar_ws.interruption import is_cancelled


class Outcome(NamedTuple):
    """The close code and reason after a handler."""

    code: int
    reason: str


NORMAL = Outcome(CloseCode.NORMAL_CLOSURE, '')
INTERNAL_ERROR = Outcome(CloseCode.INTERNAL_ERROR, 'Internal error')
RESTART = Outcome(CloseCode.SERVICE_RESTART, '')


def outcome_of(exc: Optional[BaseException], response: Optional[http.Response] = None) -> Outcome:
    """Return how to close after a handler; no reason holds the text of an unexpected exception.

    :param exc: what ended the handler, or None if it returned.
    :param response: the application's response to that, where it has made one: a close frame has no room for it.
    :raises ValueError: for a response with a status outside 100 to 999.
    """
    if response is None or (isinstance(exc, InvalidMessage) and response.status_code == 101):
        return _outcome_of_exception(exc)
    if exc is None and response.status_code < 300:
        return NORMAL
    if not 100 <= response.status_code <= 999:
        raise ValueError('A connection cannot be closed with the status %r.' % response.status_code)
    is_of_exc = isinstance(exc, HTTPException) and exc.status_code == response.status_code
    return Outcome(_close_code(exc if is_of_exc else None, response.status_code), fit_reason(_reason_in(response)))


def _outcome_of_exception(exc: Optional[BaseException]) -> Outcome:
    if exc is None:
        return NORMAL
    exc = deciding_exception(exc)
    if isinstance(exc, HTTPException) and 100 <= exc.status_code <= 999:
        return Outcome(_close_code(exc, exc.status_code), fit_reason(describe_detail(exc.detail)))
    if isinstance(exc, InvalidMessage):
        return Outcome(exc.close_code, fit_reason(exc.reason))
    if isinstance(exc, asyncio.CancelledError) and is_cancelled():
        return RESTART
    return INTERNAL_ERROR


def _close_code(exc: Optional[BaseException], status: int) -> int:
    """Return the close code for a status: 4000 more, unless the exception has a close code of its own."""
    code: int = getattr(exc, 'close_code', 4000 + status)
    return code


def _reason_in(response: http.Response) -> str:
    """Return what a response says in JSON: text unchanged, anything else compact; nothing for other media types."""
    media = response.headers.get('content-type', '').split(';')[0].strip().lower()
    if media != 'application/json' and not media.endswith('+json'):
        return ''
    try:
        return describe_detail(json.loads(response.content))
    except ValueError:
        return ''


def deciding_exception(exc: BaseException) -> BaseException:
    """Return the exception that decides how the connection ends, out of a group if there is one.

    A task group wraps what its tasks raise; where one of them raised, that exception decides.
    """
    inner = leaf_exceptions(exc)
    failures = [item for item in inner if not isinstance(item, WebSocketDisconnect)] or inner[:1]
    return failures[0] if len(failures) == 1 else exc
