"""The states of a connection."""

import enum
from typing import Any


class WebSocketState(enum.Enum):
    """The state of a WebSocket, ``ws.state``.

    Compare with ``is``: ``if ws.state is WebSocketState.OPEN``.
    """

    #: The handshake is unanswered: call ``connect``, or ``close`` to refuse it.
    CONNECTING = 'connecting'
    #: Accepted: call ``receive``, ``send`` and ``close``.
    OPEN = 'open'
    #: Closed or refused by the handler.
    CLOSED = 'closed'
    #: Lost: the client left, the server went down, or a limit was reached.
    DISCONNECTED = 'disconnected'


def _refuse_attribute(state: WebSocketState, name: str, value: Any) -> None:
    raise AttributeError(
        'ws.state is the state of the connection, a value that all connections share: set attributes of your own on '
        'the WebSocket, as in ws.%s = ...' % name
    )


# Set after the class statement, which sets attributes of the members.
WebSocketState.__setattr__ = _refuse_attribute  # type: ignore[assignment,method-assign]
