"""The watch over open connections: lost clients, handlers that do not notice it, and time limits.

One timer serves all connections of an event loop. An active connection is checked four times a second: while messages
arrive, while a send waits, while it ends. An idle connection costs nothing: the handler or a read-ahead receives the
disconnect, and the next message, send or change of state makes the connection active again.
"""

import asyncio
import contextvars
import itertools
import logging
import math
import signal
import time
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from apistar_ws.codes import EXPIRED, CloseCode
from apistar_ws.connection.connection import SETTLING_ITERATIONS, Connection
from apistar_ws.connection.handshake import printable
from apistar_ws.connection.state import WebSocketState

logger = logging.getLogger('apistar_ws')

#: Seconds between two checks of a connection: a disconnect is noticed within two of them.
CHECK_INTERVAL = 0.25
#: Connections checked in one iteration of the event loop, so that the checks do not block it for long.
CHECKS_PER_ITERATION = 250
#: The clock of the expiry, in seconds since the epoch.
wall_clock = time.time
#: Seconds that a handler has to return when another of its tasks knows of the end: a check, which may be a little late.
_REACTION_TIME = 0.9 * CHECK_INTERVAL
#: Seconds for the clean-up of a handler when the server goes down.
SHUTDOWN_GRACE = 1.0


class _Observation:
    """The last observation of one connection.

    :param connection: the connection.
    :param now: the loop's time, in seconds.
    """

    __slots__ = ('arrived', 'last_arrival', 'received', 'sent', 'last_send', 'last_read', 'end_seen', 'last_cancel')

    def __init__(self, connection: Connection, now: float) -> None:
        self.arrived = connection.arrived
        self.received = connection.received
        self.sent = connection.sent
        self.last_arrival = now
        self.last_send = now
        #: When the client was last not held back, in the loop's time.
        self.last_read = now
        self.end_seen: Optional[float] = None
        self.last_cancel = now

    def update(self, connection: Connection, now: float) -> bool:
        """Update the observation, and return whether messages have arrived since the last one."""
        arrived, is_held_back = connection.arrived, connection.is_held_back
        has_arrivals = arrived != self.arrived
        if has_arrivals or is_held_back or connection.state is not WebSocketState.OPEN:
            self.arrived, self.last_arrival = arrived, now
        if connection.received != self.received:
            self.received = connection.received
            connection.last_received = now
        if connection.sent != self.sent or not connection.is_sending:
            self.sent, self.last_send = connection.sent, now
        if not is_held_back:
            self.last_read = now
        return has_arrivals


class Watch:
    """The connections of one event loop, and the timer that checks the active ones.

    :param loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: Whether the server has ended the lifespan.
        self.server_stops = False
        self._count = 0
        self._timer: Optional[asyncio.TimerHandle] = None
        #: Without an observation until the first check.
        self._active: Dict[Connection, Optional[_Observation]] = {}
        #: Idle connections with a time limit, and the number of the check at which it may be reached.
        self._idle: Dict[Connection, Tuple[int, _Observation]] = {}
        self._due: Dict[int, Dict[Connection, None]] = {}
        self._checked_until = 0
        self._is_checking = False
        self._clock_offset = 0.0
        #: Bound once, for all idle connections.
        self._bound_wake = self.wake

    def add(self, connection: Connection) -> None:
        """Watch ``connection`` from now on."""
        self._count += 1
        self._active[connection] = None
        if self._timer is None:
            now = self.loop.time()
            self._checked_until = math.floor(now / CHECK_INTERVAL)
            self._clock_offset = wall_clock() - now
            # A new context: that of this connection would live as long as the watch.
            self._start_timer(contextvars.Context())

    def remove(self, connection: Connection) -> None:
        """Stop watching ``connection``, which its last change of state has made active."""
        self._count -= 1
        self._active.pop(connection, None)

    def wake(self, connection: Connection) -> None:
        """Make an idle connection active again."""
        if connection in self._active:
            return  # Its time has come meanwhile.
        now = self.loop.time()
        observation = self._forget_idle(connection)
        if observation is None:
            observation = _Observation(connection, now)
        else:
            observation.update(connection, now)
        self._active[connection] = observation

    def _start_timer(self, context: Optional[contextvars.Context] = None) -> None:
        number = math.floor(self.loop.time() / CHECK_INTERVAL) + 1
        self._timer = self.loop.call_at(number * CHECK_INTERVAL, self._tick, context=context)

    def _tick(self) -> None:
        self._timer = None
        if self._count:
            self._start_timer()
        self.check(self.loop.time())

    def check(self, now: float) -> None:
        """Check every connection that is active or due; ``now`` is the loop's time, in seconds."""
        due = {connection: None for number in self._numbers_until(now) for connection in self._due.get(number, ())}
        offset = wall_clock() - now
        if abs(offset - self._clock_offset) > CHECK_INTERVAL:
            # The clock was set, or the machine slept, which the loop's time does not count.
            self._clock_offset = offset
            due.update({connection: None for connection in self._idle if connection.ending.expires_at is not None})
        for connection in due:
            self._active[connection] = self._forget_idle(connection)
        if not self._is_checking:
            self._check_some(iter(list(self._active)), now)

    def _check_some(self, remaining: Iterator[Connection], now: float) -> None:
        """Check some of the connections now, and the others in the next iterations of the event loop."""
        some = list(itertools.islice(remaining, CHECKS_PER_ITERATION))
        for connection in some:
            if connection in self._active:
                self._check(connection, self._active[connection], now)
        self._is_checking = len(some) == CHECKS_PER_ITERATION
        if self._is_checking:
            self.loop.call_soon(self._check_some, remaining, now)

    def _check(self, connection: Connection, observation: Optional[_Observation], now: float) -> None:
        if observation is None:
            self._active[connection] = _Observation(connection, now)
            connection.last_received = now if connection.received else None
            if connection.state is WebSocketState.OPEN and not connection.is_listening:
                connection.read_ahead()
            return
        has_sent = connection.is_sending or connection.sent != observation.sent
        has_arrivals = observation.update(connection, now)
        self._check_sends(connection, observation, now)
        if connection.is_over:
            self._check_end(connection, observation, now)
            return
        self._check_silence(connection, observation, now)
        self._check_backlog(connection, observation, now)
        _close_if_expired(connection)
        if not connection.is_listening:
            connection.read_ahead()
        elif connection.state is WebSocketState.OPEN and not has_arrivals and not has_sent:
            self._make_idle(connection, observation, now)

    # Time limits

    def _check_sends(self, connection: Connection, observation: _Observation, now: float) -> None:
        timeout = connection.settings.send_timeout
        if timeout is not None and now - observation.last_send >= timeout:
            sent, reason = observation.sent, 'A message was not taken for %g seconds' % timeout
            self._once_settled(
                lambda: connection.is_sending and connection.sent == sent,
                lambda: connection.abort(CloseCode.POLICY_VIOLATION, reason),
            )

    def _check_silence(self, connection: Connection, observation: _Observation, now: float) -> None:
        timeout = connection.settings.idle_timeout
        # While nothing is receiving, the server may hold messages of the client.
        if timeout is None or now - observation.last_arrival < timeout or not connection.is_listening:
            return
        arrived, reason = observation.arrived, 'Nothing received for %g seconds' % timeout
        self._once_settled(
            lambda: connection.state is WebSocketState.OPEN and connection.arrived == arrived,
            lambda: connection.abort(CloseCode.GOING_AWAY, reason),
        )

    def _check_backlog(self, connection: Connection, observation: _Observation, now: float) -> None:
        timeout = connection.settings.backlog_timeout
        if not connection.is_held_back:
            return
        if self._is_stopping(connection):
            connection.abort(CloseCode.SERVICE_RESTART, '')
        elif timeout is not None and now - observation.last_read >= timeout:
            connection.abort(CloseCode.TRY_AGAIN_LATER, 'Messages were not taken for %g seconds' % timeout)

    def _once_settled(
        self, condition: Callable[[], bool], act: Callable[[], None], iterations: int = SETTLING_ITERATIONS
    ) -> None:
        """Call ``act`` if the condition still holds after everything the server has received has been passed on."""
        if iterations:
            self.loop.call_soon(self._once_settled, condition, act, iterations - 1)
        elif condition():
            act()

    # The end

    def _check_end(self, connection: Connection, observation: _Observation, now: float) -> None:
        is_stopping, delivers_until = self._is_stopping(connection), connection.ending.delivers_until
        if delivers_until is not None:
            if now < delivers_until and not is_stopping and not _has_expired(connection):
                return
            connection.end_delivery()
        # Another task of the handler may know of the end: the handler has until the next check to return.
        if observation.end_seen is None:
            observation.end_seen = observation.last_cancel = now
        elif now - observation.end_seen >= _REACTION_TIME and connection.state is WebSocketState.DISCONNECTED:
            is_unaware = not connection.interruption.is_known and connection.settings.cancel_on_disconnect
            if is_unaware or connection.is_sending:
                connection.interrupt(is_unaware)
        if not is_stopping:
            observation.last_cancel = now
        elif now - observation.last_cancel >= SHUTDOWN_GRACE:
            observation.last_cancel = now
            _cancel_again(connection)

    def _is_stopping(self, connection: Connection) -> bool:
        return self.server_stops or connection.ending.server_stops or _server_is_stopping()

    # Idle connections

    def _make_idle(self, connection: Connection, observation: _Observation, now: float) -> None:
        deadline = _next_deadline(connection, observation, now)
        del self._active[connection]
        if deadline is not None:
            number = max(math.ceil(deadline / CHECK_INTERVAL), self._checked_until + 1)
            self._idle[connection] = (number, observation)
            self._due.setdefault(number, {})[connection] = None
        connection.become_idle(self._bound_wake)

    def _forget_idle(self, connection: Connection) -> Optional[_Observation]:
        if connection not in self._idle:
            return None
        number, observation = self._idle.pop(connection)
        del self._due[number][connection]
        if not self._due[number]:
            del self._due[number]
        return observation

    def _numbers_until(self, now: float) -> List[int]:
        """Return the numbers of the checks that have become due since the last one."""
        last, self._checked_until = self._checked_until, max(self._checked_until, math.floor(now / CHECK_INTERVAL))
        if self._checked_until - last > len(self._due):
            return [number for number in sorted(self._due) if number <= self._checked_until]
        return list(range(last + 1, self._checked_until + 1))


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


def _close_if_expired(connection: Connection) -> None:
    """Close a connection that has expired."""
    if connection.state is WebSocketState.OPEN and _has_expired(connection):
        connection.abort(EXPIRED, 'Expired')


def _has_expired(connection: Connection) -> bool:
    expires_at = connection.ending.expires_at
    return expires_at is not None and wall_clock() >= expires_at


def _next_deadline(connection: Connection, observation: _Observation, now: float) -> Optional[float]:
    """Return when an idle connection must be checked, in the loop's time, or None for never."""
    deadlines = []
    if connection.settings.idle_timeout is not None:
        deadlines.append(observation.last_arrival + connection.settings.idle_timeout)
    if connection.ending.expires_at is not None:
        deadlines.append(now + connection.ending.expires_at - wall_clock())
    return min(deadlines, default=None)


def _server_is_stopping() -> bool:
    """Return whether uvicorn is shutting down, which it does not report if the client has left before.

    ``Server.handle_exit`` handles the signal and sets ``Server.should_exit``; both are public.
    """
    handler = signal.getsignal(signal.SIGTERM)
    return getattr(getattr(handler, '__self__', None), 'should_exit', None) is True


def _cancel_again(connection: Connection) -> None:
    """Cancel a handler that is still running while the server goes down, and log its third cancellation."""
    if connection.interruption.owner is not None and connection.interruption.cancel_again() == 3:
        logger.warning(
            'The handler on %s is still running after two cancellations and blocks the shutdown: '
            'do not catch asyncio.CancelledError.' % printable(connection.scope['path'])
        )
