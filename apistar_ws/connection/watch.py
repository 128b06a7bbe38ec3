"""The watch over open connections: clients that left, handlers that do not notice, limits of time.

One timer for all connections of an event loop. A connection is looked at a few times a second while it moves: while
messages come, while a send waits, while its end is under way. One that does nothing is left to rest: whoever waits
for the client, the handler or a task that reads ahead, learns of its leaving, and what moves calls the watch back.
"""

import asyncio
import contextvars
import itertools
import logging
import math
import signal
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Protocol, Tuple

from apistar_ws.codes import EXPIRED, CloseCode
from apistar_ws.connection.connection import SETTLING_TURNS, WebSocketState
from apistar_ws.connection.handshake import printable
from apistar_ws.interruption import Interruption
from apistar_ws.settings import Settings

logger = logging.getLogger('apistar_ws')

#: Seconds between two looks: a client's leaving is noticed within two of them.
INTERVAL = 0.25
#: Connections that are looked at in one turn of the event loop, so that no look holds up the others for long.
LOOKS_PER_TURN = 250
#: What expiry is measured by: it is set in seconds since the epoch.
wall_clock = time.time
#: Seconds that a handler has for its clean-up when the server goes down.
SHUTDOWN_GRACE = 1.0


class Watched(Protocol):
    """What the watch reads of a connection, and asks of it; it writes nothing there."""

    @property
    def settings(self) -> Settings:
        """The limits of the route."""

    @property
    def scope(self) -> Dict[str, Any]:
        """The scope of the handshake."""

    @property
    def state(self) -> WebSocketState:
        """Where the connection stands."""

    @property
    def close_code(self) -> Optional[int]:
        """The close code, once it is over."""

    @property
    def _server_stops(self) -> bool:
        """Whether the server is known to go down."""

    @property
    def _expires_at(self) -> Optional[float]:
        """When it expires, in seconds since the epoch."""

    @property
    def _interruption(self) -> Interruption:
        """Whether the handler knows of the end."""

    @property
    def _arrived(self) -> int:
        """How many messages have come from the client."""

    @property
    def _sent(self) -> int:
        """How many messages went to the client."""

    @property
    def _sending(self) -> bool:
        """Whether a send is waiting for the client."""

    @property
    def _held_back(self) -> bool:
        """Whether the client is held back because the handler does not receive."""

    @property
    def _is_listening(self) -> bool:
        """Whether somebody receives."""

    def _read_ahead(self) -> None:
        """Receive for the handler."""

    def _abort(self, code: int, reason: str) -> None:
        """Close, and end the handler."""

    def _interrupt(self) -> None:
        """End the handler, and the sends of all others."""

    def _rest(self, wake: Callable[[Any], None]) -> None:
        """Call ``wake`` when something moves."""


class Observation:
    """What the watch saw of one connection at its last look."""

    __slots__ = ('arrived', 'last_arrival', 'sent', 'last_send', 'last_take', 'looks_since_end', 'last_cancel')

    def __init__(self, ws: Watched, now: float) -> None:
        self.arrived = ws._arrived
        self.sent = ws._sent
        self.last_arrival = now
        self.last_send = now
        #: When the client was last seen not to be held back.
        self.last_take = now
        self.looks_since_end = 0
        self.last_cancel = now

    def note(self, ws: Watched, now: float) -> bool:
        """Note what has moved since the last look, and tell whether messages have come."""
        arrived, held_back, is_open = ws._arrived, ws._held_back, ws.state is WebSocketState.OPEN
        moved = arrived != self.arrived
        if arrived != self.arrived or held_back or not is_open:
            self.arrived, self.last_arrival = arrived, now
        if ws._sent != self.sent or not ws._sending:
            self.sent, self.last_send = ws._sent, now
        if not held_back:
            self.last_take = now
        return moved


class Watch:
    """The connections of one event loop, and the timer that looks at those that move.

    :param loop: the event loop that they run on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: Whether the server has ended the lifespan.
        self.server_stops = False
        self._count = 0
        self._timer: Optional[asyncio.TimerHandle] = None
        #: Those that are looked at; None until the first look.
        self._moving: Dict[Watched, Optional[Observation]] = {}
        #: Those that rest, and have to be looked at by a certain time.
        self._resting: Dict[Watched, Tuple[int, Observation]] = {}
        self._due: Dict[int, Dict[Watched, None]] = {}
        self._looked_until = 0
        self._looking = False
        #: Bound once, for all connections that rest.
        self._bound_wake = self.wake

    def add(self, ws: Watched) -> None:
        """Watch ``ws`` from now on."""
        self._count += 1
        self._moving[ws] = None
        if self._timer is None:
            self._looked_until = self._tick_of(self.loop.time())
            # A context of its own: this connection's would live as long as the watch.
            self._timer = self.loop.call_later(INTERVAL, self._tick, context=contextvars.Context())

    def remove(self, ws: Watched) -> None:
        """Watch ``ws`` no longer."""
        self._count -= 1
        # It does not rest: a change of state has called the watch back.
        self._moving.pop(ws, None)

    def wake(self, ws: Watched) -> None:
        """Look at ``ws`` again, which rested and has moved."""
        now = self.loop.time()
        seen = self._forget_rest(ws)
        if seen is None:
            seen = Observation(ws, now)
        else:
            seen.note(ws, now)
        self._moving[ws] = seen

    def _tick(self) -> None:
        self._timer = self.loop.call_later(INTERVAL, self._tick) if self._count else None
        self.look(self.loop.time())

    def look(self, now: float) -> None:
        """Look at every connection that moves, or whose time has come; ``now`` is the loop's time, in seconds."""
        overdue = [ws for tick in self._ticks_until(now) for ws in self._due.get(tick, ())]
        for ws in overdue:
            self._moving[ws] = self._forget_rest(ws)
        if not self._looking:
            self._look_on(iter(list(self._moving)), now)

    def _look_on(self, remaining: Iterator[Watched], now: float) -> None:
        """Look at some of the connections, and at the others in the next turns of the event loop."""
        some = list(itertools.islice(remaining, LOOKS_PER_TURN))
        for ws in some:
            if ws in self._moving:
                self._look_at(ws, self._moving[ws], now)
        self._looking = len(some) == LOOKS_PER_TURN
        if self._looking:
            self.loop.call_soon(self._look_on, remaining, now)

    def _look_at(self, ws: Watched, seen: Optional[Observation], now: float) -> None:
        if seen is None:
            self._moving[ws] = Observation(ws, now)
            return
        sends = ws._sending or ws._sent != seen.sent
        receives = seen.note(ws, now)
        self._look_at_sends(ws, seen, now)
        if ws.state in (WebSocketState.CLOSED, WebSocketState.DISCONNECTED):
            self._look_at_end(ws, seen, now)
            return
        self._look_at_receives(ws, seen, now)
        look_at_expiry(ws)
        if receives:
            return
        if not ws._is_listening:
            ws._read_ahead()
        elif ws.state is WebSocketState.OPEN and not sends:
            self._let_rest(ws, seen, now)

    # Limits of time

    def _look_at_sends(self, ws: Watched, seen: Observation, now: float) -> None:
        timeout = ws.settings.send_timeout
        if timeout is not None and now - seen.last_send >= timeout:
            sent = seen.sent
            self._once_settled(
                lambda: ws._sending and ws._sent == sent,
                lambda: ws._abort(CloseCode.POLICY_VIOLATION, 'A message was not taken for %g seconds' % timeout),
            )

    def _look_at_receives(self, ws: Watched, seen: Observation, now: float) -> None:
        self._look_at_silence(ws, seen, now)
        timeout = ws.settings.backlog_timeout
        if not ws._held_back:
            return
        if self.server_stops or server_is_stopping():
            ws._abort(CloseCode.SERVICE_RESTART, '')
        elif timeout is not None and now - seen.last_take >= timeout:
            ws._abort(CloseCode.TRY_AGAIN_LATER, 'Messages were not taken for %g seconds' % timeout)

    def _look_at_silence(self, ws: Watched, seen: Observation, now: float) -> None:
        timeout = ws.settings.idle_timeout
        # Where nobody listens yet, the server may hold what the client has sent.
        if timeout is None or now - seen.last_arrival < timeout or not ws._is_listening:
            return
        arrived = seen.arrived
        self._once_settled(
            lambda: ws.state is WebSocketState.OPEN and ws._arrived == arrived,
            lambda: ws._abort(CloseCode.GOING_AWAY, 'Nothing received for %g seconds' % timeout),
        )

    def _once_settled(self, holds: Callable[[], bool], act: Callable[[], None], turns: int = SETTLING_TURNS) -> None:
        """Act if it still holds when all that the server knows by now has reached the application."""
        if turns:
            self.loop.call_soon(self._once_settled, holds, act, turns - 1)
        elif holds():
            act()

    # The end

    def _look_at_end(self, ws: Watched, seen: Observation, now: float) -> None:
        # Another task of the handler may have been told: the handler has a look's time to end by itself.
        seen.looks_since_end += 1
        if seen.looks_since_end == 1:
            seen.last_cancel = now
        elif ws.state is WebSocketState.DISCONNECTED and (ws._sending or self._is_unaware(ws)):
            ws._interrupt()
        if not (self.server_stops or ws._server_stops or server_is_stopping()):
            seen.last_cancel = now
        elif now - seen.last_cancel >= SHUTDOWN_GRACE:
            seen.last_cancel = now
            cancel_again(ws)

    def _is_unaware(self, ws: Watched) -> bool:
        return not ws._interruption.told and ws.settings.cancel_on_disconnect

    # Rest

    def _let_rest(self, ws: Watched, seen: Observation, now: float) -> None:
        due = next_deadline(ws, seen, now)
        del self._moving[ws]
        if due is not None:
            tick = max(self._tick_of(due), self._looked_until + 1)
            self._resting[ws] = (tick, seen)
            self._due.setdefault(tick, {})[ws] = None
        ws._rest(self._bound_wake)

    def _forget_rest(self, ws: Watched) -> Optional[Observation]:
        if ws not in self._resting:
            return None
        tick, seen = self._resting.pop(ws)
        del self._due[tick][ws]
        if not self._due[tick]:
            del self._due[tick]
        return seen

    def _tick_of(self, when: float) -> int:
        """Return the number of the first look at or after ``when``."""
        return math.ceil(when / INTERVAL)

    def _ticks_until(self, now: float) -> List[int]:
        """Return the numbers of the looks that have come since the last one."""
        last, self._looked_until = self._looked_until, max(self._looked_until, math.floor(now / INTERVAL))
        if self._looked_until - last > len(self._due):
            return [tick for tick in sorted(self._due) if tick <= self._looked_until]
        return list(range(last + 1, self._looked_until + 1))


class Watches:
    """The watch of each event loop that an application runs on."""

    def __init__(self) -> None:
        self._by_loop: Dict[asyncio.AbstractEventLoop, Watch] = {}

    def note_lifespan(self, is_over: bool) -> None:
        """Note that the server has begun the lifespan of the application, or ended it."""
        self.current().server_stops = is_over

    def current(self) -> Watch:
        """Return the watch of the running event loop."""
        loop = asyncio.get_running_loop()
        try:
            return self._by_loop[loop]
        except KeyError:
            self._by_loop = {known: watch for known, watch in self._by_loop.items() if not known.is_closed()}
            return self._by_loop.setdefault(loop, Watch(loop))


def look_at_expiry(ws: Watched) -> None:
    """Close a connection whose time is up."""
    expires_at = ws._expires_at
    if expires_at is not None and ws.state is WebSocketState.OPEN and wall_clock() >= expires_at:
        ws._abort(EXPIRED, 'Expired')


def next_deadline(ws: Watched, seen: Observation, now: float) -> Optional[float]:
    """Return when ``ws`` has to be looked at though nothing moves, in the loop's time, or None if it need not be."""
    deadlines = []
    if ws.settings.idle_timeout is not None:
        deadlines.append(seen.last_arrival + ws.settings.idle_timeout)
    if ws._expires_at is not None:
        deadlines.append(now + ws._expires_at - wall_clock())
    return min(deadlines, default=None)


def server_is_stopping() -> bool:
    """Tell whether uvicorn has been told to stop: it does not say so for a connection whose client has left.

    ``Server.handle_exit`` handles the signal, and ``Server.should_exit`` is what it sets; both are public.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, '__self__', None), 'should_exit', None) is True


def cancel_again(ws: Watched) -> None:
    """Cancel a handler that has not ended in time while the server goes down; one that goes on is named."""
    if ws._interruption.owner is not None and ws._interruption.cancel_again() == 3:
        logger.warning(
            'The handler on %s goes on although it was cancelled twice, and keeps the server from ending: '
            'let asyncio.CancelledError pass.' % printable(ws.scope['path'])
        )
