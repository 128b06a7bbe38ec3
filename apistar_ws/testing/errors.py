"""Exceptions that the test client raises: denials, closes, timeouts and tasks left running."""

import json
from typing import Any, Optional

from apistar import http

from apistar_ws.testing.waits import CLOCK_ADVICE, is_clock_patched


class HandshakeDenied(Exception):
    """Raised if the application denied the handshake.

    Expect it with ``pytest.raises``, around the ``with`` of the connection.

    :param status: the HTTP status code; 403 for a close before the accept.
    :param headers: the headers of the answer.
    :param body: the bytes of the body.
    """

    def __init__(self, status: int, headers: Optional[http.Headers] = None, body: bytes = b'') -> None:
        self.status = status
        self.headers = headers or http.Headers()
        self.body = body
        super().__init__('The handshake was denied with %d: %s' % (status, body.decode('utf-8', 'replace')))

    def json(self) -> Any:
        """Return the value of the JSON body."""
        return json.loads(self.body)


class ConnectionClosed(Exception):
    """Raised by ``receive`` once the application has closed the connection.

    Expect it with ``pytest.raises``; an iteration over the messages ends with it.

    :param code: the close code.
    :param reason: the close reason.
    """

    def __init__(self, code: int, reason: str = '') -> None:
        self.code = code
        self.reason = reason
        super().__init__('The application closed the connection with %d %s' % (code, reason))


class WaitTimeout(AssertionError):
    """Raised if a wait took too long; its text says what was awaited, and which line the handler was at."""

    def __init__(self, message: str) -> None:
        super().__init__('%s\n%s' % (message, CLOCK_ADVICE) if is_clock_patched() else message)


class TasksLeft(AssertionError):
    """Raised at the end of a connection if its handler left tasks running."""
