"""The watch over open connections: clients that left, handlers that do not notice, limits of time.

One timer for all connections of an event loop looks at each a few times a second. A handler that keeps
receiving pays nothing for it: all the watch reads are the counters that the channel keeps anyway.
"""

import asyncio
import contextvars
import logging
from typing import Dict, Optional

from apistar_ws.codes import CloseCode
from apistar_ws.websocket import WebSocket, WebSocketState, current_task

logger = logging.getLogger('apistar_ws')

#: Seconds between two looks: a client's leaving is noticed within two of them.
INTERVAL = 0.25
#: Looks that a handler has for its clean-up when the server goes down, a second in all.
LOOKS_AT_SHUTDOWN = 4


class Observation:
    """What the watch saw of one connection at its last look."""

    def __init__(self, ws: WebSocket, now: float) -> None:
        self.received = ws._received
        self.sent = ws._sent
        self.last_receive = now
        self.last_send = now
        self.looks_since_gone = 0

    def look(self, ws: WebSocket, now: float) -> None:
        """Compare the connection with the last look, and act on what does not move."""
        self._look_at_sends(ws, now)
        if ws.state is WebSocketState.DISCONNECTED:
            self._look_at_handler(ws)
        elif ws.state is not WebSocketState.CLOSED:
            self._look_at_receives(ws, now)

    def _look_at_receives(self, ws: WebSocket, now: float) -> None:
        received = ws._received + (ws._ahead.received if ws._ahead is not None else 0)
        moved = received != self.received
        self.received = received
        held_back = ws._ahead is not None and ws._ahead.full
        if moved or held_back or ws.state is WebSocketState.CONNECTING:
            self.last_receive = now
        if ws._ahead is not None:
            ws._ahead.resume()
        elif not moved and not ws._receiving and ws._handshaken:
            ws.read_ahead()
        timeout = ws.settings.idle_timeout
        if timeout is not None and now - self.last_receive >= timeout and ws.state is WebSocketState.OPEN:
            ws.abort(CloseCode.GOING_AWAY, 'Nothing received for %g seconds' % timeout)

    def _look_at_sends(self, ws: WebSocket, now: float) -> None:
        if not ws.sending or ws._sent != self.sent:
            self.sent = ws._sent
            self.last_send = now
        timeout = ws.settings.send_timeout
        if timeout is not None and now - self.last_send >= timeout:
            self.last_send = now
            ws.abort(CloseCode.POLICY_VIOLATION, 'A message was not taken for %g seconds' % timeout)

    def _look_at_handler(self, ws: WebSocket) -> None:
        # Another task of the handler was told: the handler has a look's time to end by itself. One that was told
        # itself may clean up as long as it likes, unless the server goes down.
        self.looks_since_gone += 1
        if ws._told and ws.close_code == CloseCode.SERVICE_RESTART:
            overdue = self.looks_since_gone > LOOKS_AT_SHUTDOWN
        else:
            overdue = self.looks_since_gone > 1 and not ws._told and ws.settings.cancel_on_disconnect
        if overdue:
            ws.interrupt()


class Watch:
    """The connections of one event loop, and the timer that looks at them while there are any.

    :param loop: the event loop that they run on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.connections: Dict[WebSocket, Optional[Observation]] = {}
        self._timer: Optional[asyncio.TimerHandle] = None

    def add(self, ws: WebSocket) -> None:
        """Watch ``ws``, which the current task serves, from now on."""
        ws._owner = current_task(self.loop)
        self.connections[ws] = None
        if self._timer is None:
            # A context of its own: this connection's would live as long as the watch.
            self._timer = self.loop.call_later(INTERVAL, self._tick, context=contextvars.Context())

    def remove(self, ws: WebSocket) -> None:
        """Watch ``ws`` no longer."""
        del self.connections[ws]

    def _tick(self) -> None:
        self._timer = self.loop.call_later(INTERVAL, self._tick) if self.connections else None
        self.look(self.loop.time())

    def look(self, now: float) -> None:
        """Look at every connection once; ``now`` is the time of the event loop, in seconds."""
        for ws, observation in list(self.connections.items()):
            if observation is None:
                self.connections[ws] = Observation(ws, now)
            else:
                observation.look(ws, now)
