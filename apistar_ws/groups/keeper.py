"""Whether a remote engine is open, away or stopped, and when to try again: the same for whatever engine that is."""

import asyncio
import logging
import random
from typing import Awaitable, Callable, Generic, Optional, Protocol, TypeVar

from apistar.exceptions import ConfigurationError

from apistar_ws.groups.background import finished, start_task
from apistar_ws.groups.engine import Receiver
from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.log import RouteLog

#: Seconds between two tries, at first and at last; a random part of it, since other processes try too.
FIRST_DELAY, LAST_DELAY = 0.05, 0.5
#: Seconds after which a session that fails was none that fails at once.
SETTLED = 2.0
#: Seconds before another try, where the engine is there and refuses.
PAUSE = 1.0
#: Seconds for what has to be said to the engine at the end.
TIME_TO_LEAVE = 0.3


class RemoteSession(Protocol):
    """The connections to a remote engine, from the moment that they are open until one of them fails."""

    @property
    def failure(self) -> Optional[Exception]:
        """The reason why it cannot be used any more, if that is so."""

    async def close(self) -> None:
        """Close the connections."""


S = TypeVar('S', bound=RemoteSession)


class Keeper(Generic[S]):
    """Keeps a session open, and opens another one when it has failed; starts when it is needed.

    :param make: returns a session that is not open yet.
    :param connect: opens a session.
    :param serve: uses a session until it fails, and returns the reason; None where nobody needs it any more.
    :param receiver: is notified when the engine goes away and comes back.
    """

    def __init__(
        self, make: Callable[[], S], connect: Callable[[S], Awaitable[None]],
        serve: Callable[[S], Awaitable[Optional[Exception]]], receiver: Receiver,
    ) -> None:  # fmt: skip
        self._make = make
        self._connect = connect
        self._serve = serve
        self._receiver = receiver
        self._log = RouteLog()
        self.state = 'stopped'
        #: The session that is open.
        self.session: Optional[S] = None
        #: Whether the session is ending because nobody uses it.
        self.is_ending = False
        self._is_over = False
        self._refusal: Optional[ConfigurationError] = None
        self._task: Optional['asyncio.Task[None]'] = None
        #: Done when the first try has an outcome, and when it is open again.
        self._started: Optional['asyncio.Future[None]'] = None
        self._returned: Optional['asyncio.Future[None]'] = None

    async def ready(self) -> S:
        """Start, if need be, and return the session when it is open.

        :raises ConfigurationError: for an engine that cannot be used.
        :raises GroupsUnavailable: if it is away.
        """
        if self.is_ending and self._task is not None:
            await asyncio.wait({self._task})
        if self._is_over:
            raise GroupsUnavailable('The groups were stopped')
        if self._task is None:
            self.state, self._refusal = 'starting', None
            self._started = asyncio.get_running_loop().create_future()
            self._task = start_task(self._run())
        if self.state == 'starting':
            assert self._started is not None
            await asyncio.wait({self._started})
        if self._refusal is not None:
            raise ConfigurationError(str(self._refusal))
        if self.session is None or self.session.failure is not None:
            raise GroupsUnavailable()
        return self.session

    async def until_retry(self) -> None:
        """Return when it is worth another try."""
        if self.state == 'open':
            return await asyncio.sleep(PAUSE)
        if self._returned is None:
            self._returned = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._returned})

    async def stop(self, leave: Callable[[S], Awaitable[None]]) -> None:
        """End; ``leave`` says so to an open session before."""
        self._is_over = True
        task, session = self._task, self.session
        if session is not None and session.failure is None:
            await asyncio.wait({start_task(self._leave(leave, session))}, timeout=TIME_TO_LEAVE)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _leave(self, leave: Callable[[S], Awaitable[None]], session: S) -> None:
        await leave(session)

    async def _run(self) -> None:
        """Open one session after the other, as long as one is needed."""
        delay, loop = 0.0, asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                failure = await self._use(self._make())
                if failure is None:
                    return
                self._note_away(failure)
                if loop.time() - began > SETTLED:
                    delay = 0.0
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(max(2 * delay, FIRST_DELAY), LAST_DELAY)
        finally:
            self._change('stopped')
            self._task, self.is_ending = None, False

    async def _use(self, session: S) -> Optional[Exception]:
        """Return why ``session`` has failed, or None if no other one is needed."""
        try:
            await self._connect(session)
            return await self._serve_open(session)
        except Exception as exc:
            if isinstance(exc, ConfigurationError) and self.state == 'starting':
                self._refusal = exc
                return None
            return exc if session.failure is None else session.failure
        finally:
            self.session = None
            await finished(start_task(session.close()))

    async def _serve_open(self, session: S) -> Optional[Exception]:
        if self.state == 'away':
            self._log.write(logging.INFO, 'The engine of the groups is back.')
        self.session = session
        self._change('open')
        self._receiver.on_reconnected()
        return await self._serve(session)

    def _note_away(self, failure: Exception) -> None:
        if self.state != 'away':
            reason = str(failure).rstrip('.') or type(failure).__name__
            message = 'The engine of the groups is away: %s. Members stay; what is sent now fails.'
            self._log.write(logging.WARNING, message, reason)
            self._change('away')

    def _change(self, state: str) -> None:
        """Change the state, and notify who waits for that."""
        was_open, self.state = self.state == 'open', state
        if was_open:
            self._receiver.on_disconnected()
        if self._started is not None and not self._started.done():
            self._started.set_result(None)
        if self._returned is not None and state != 'away':
            self._returned.set_result(None)
            self._returned = None
