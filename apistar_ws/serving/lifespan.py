"""How an application starts and stops: startup and shutdown hooks, and draining before the process ends."""

import asyncio
import functools
import logging
import math
import weakref
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from apistar.exceptions import ConfigurationError
from apistar.server.app import App
from apistar.server.components import Component

from apistar_ws.codes import CloseCode
from apistar_ws.connection.connection import Connection
from apistar_ws.connection.state import WebSocketState
from apistar_ws.injection.injector import ASyncInjector, require_hook
from apistar_ws.injection.resources import OpenedResources, OpenedResourcesComponent, close_all, close_rest
from apistar_ws.injection.signatures import describe_handler
from apistar_ws.injection.steps import State, note_failure
from apistar_ws.interruption import ends_from_outside
from apistar_ws.serving.endpoint import Endpoint
from apistar_ws.types import Receive, Scope, Send

logger = logging.getLogger('apistar_ws')

#: The key of the resources that a startup or shutdown hook has opened, in the injector's state.
_STARTUP_RESOURCES = OpenedResources.__name__.lower()
#: Seconds for handlers to end after the last close.
DRAIN_LINGER = 5.0
#: Seconds between two checks whether they have ended.
DRAIN_CHECK_INTERVAL = 0.05
#: The maximum number of connections closed in one iteration of the event loop.
_CLOSES_PER_ITERATION = 100


class _StartupResourcesComponent(Component):  # type: ignore[misc]
    """Supplies the list of open resources to startup and shutdown hooks, which have no request."""

    def resolve(self) -> OpenedResources:
        """Return the list of this hook."""
        return OpenedResources()


class Startup:
    """The startup and shutdown of one application.

    :param app: the application.
    :param components: its components; those that need a request are not available to these hooks.
    :param note_lifespan: called with False when the lifespan begins, and with True when it ends.
    """

    def __init__(self, app: Any, components: Sequence[Component], note_lifespan: Callable[[bool], None]) -> None:
        self._app = app
        self._note_lifespan = note_lifespan
        others = [item for item in components if not isinstance(item, OpenedResourcesComponent)]
        #: Components with startup or shutdown hooks of their own.
        self._lifespan_components = [item for item in others if _lifespan_functions(item)]
        self._injector = ASyncInjector([_StartupResourcesComponent(), *others], {'app': App})
        self._instances: Dict[Any, Any] = {}
        self._started: List[Any] = []
        self._starting: Optional['asyncio.Task[None]'] = None
        #: Whether requests may be served.
        self.is_done = False
        # The next test may start the application again in another event loop.
        self._stopped_in: Callable[[], Optional[asyncio.AbstractEventLoop]] = _no_loop

    @property
    def is_over(self) -> bool:
        """Whether the server of this event loop has stopped the application, so that it serves nothing any more."""
        return self._stopped_in() is asyncio.get_running_loop()

    def check(self) -> None:
        """Refuse hooks that could not run.

        :raises ConfigurationError: for an argument that belongs to a request, or that no component supplies.
        """
        for hook in (*self._lifespan_components, *self._hooks()):
            for func in _lifespan_functions(hook):
                self._check(func)

    def _check(self, func: Callable[..., Any]) -> None:
        require_hook(func)
        try:
            self._injector.runner((func,), {'app': self._app})
        except ConfigurationError as exc:
            raise ConfigurationError(
                '%s runs without a request, when the application starts or stops, and asks for what is not there '
                'then: %s' % (describe_handler(func), exc)
            ) from None

    def _hooks(self) -> Iterator[Any]:
        """Yield the hooks with a startup or shutdown function; a class has the same instance for both."""
        for hook in self._app.event_hooks or ():
            if not hasattr(hook, 'on_startup') and not hasattr(hook, 'on_shutdown'):
                continue
            if isinstance(hook, type) and hook not in self._instances:
                self._instances[hook] = hook()
            yield self._instances[hook] if isinstance(hook, type) else hook

    async def start(self, components: Sequence[Component] = ()) -> None:
        """Run ``on_startup`` of ``components`` and of each hook; if one fails, stop those that have started.

        :raises Exception: the exception of the one that failed.
        """
        for hook in (*components, *self._hooks()):
            try:
                await self._run(hook, 'on_startup')
            except BaseException:
                await self.stop()
                raise
            self._started.append(hook)
        self.is_done = True

    async def stop(self) -> List[BaseException]:
        """Run ``on_shutdown`` of each hook that has started, the last one first, and return their exceptions."""
        self.is_done = False
        failures: List[BaseException] = []
        while self._started:
            try:
                await self._run(self._started.pop(), 'on_shutdown')
            except Exception as exc:
                failures.append(exc)
        return failures

    async def _run(self, hook: Any, name: str) -> None:
        func = getattr(hook, name, None)
        if func is None:
            return
        try:
            self._check(func)
            await self._run_with_resources(func, {'app': self._app})
        except asyncio.CancelledError as exc:
            if ends_from_outside(exc):
                raise
            logger.exception('%s failed.', describe_handler(func))
            raise RuntimeError('%s awaits a task that was cancelled.' % describe_handler(func)) from exc
        except Exception:
            logger.exception('%s failed.', describe_handler(func))
            raise

    async def _run_with_resources(self, func: Callable[..., Any], state: State) -> None:
        try:
            await self._injector.run_async([func], state)
        except BaseException as exc:
            await close_rest(state.get(_STARTUP_RESOURCES) or OpenedResources(), exc)
            raise
        await close_all(state.get(_STARTUP_RESOURCES) or OpenedResources(), functools.partial(note_failure, state))

    async def ensure(self) -> None:
        """Start the application at its first request, on a server without a lifespan; other requests wait for it.

        :raises Exception: the exception of a hook; the next request tries again.
        """
        if next(self._hooks(), None) is None:
            self.is_done = True
            return
        starting = self._starting
        if starting is None or starting.done() or starting.get_loop() is not asyncio.get_running_loop():
            self._starting = starting = asyncio.ensure_future(self.start())
        # A client that leaves must not cancel the startup.
        await asyncio.shield(starting)

    async def serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the lifespan of the server: start and stop the application (ASGI specification, lifespan protocol)."""
        await receive()
        self._note_lifespan(False)
        self._stopped_in = _no_loop
        try:
            await self.start(self._lifespan_components)
        except Exception:
            await send({'type': 'lifespan.startup.failed', 'message': 'The log says what has failed.'})
            if scope.get('raise_exceptions'):
                raise
            return
        await send({'type': 'lifespan.startup.complete'})
        await receive()
        self._note_lifespan(True)
        self._stopped_in = weakref.ref(asyncio.get_running_loop())
        failures = await self.stop()
        if not failures:
            await send({'type': 'lifespan.shutdown.complete'})
            return
        await send({'type': 'lifespan.shutdown.failed', 'message': 'The log says what has failed.'})
        if scope.get('raise_exceptions'):
            raise failures[0]


def _no_loop() -> None:
    """Return None, since the application has not been stopped in any event loop."""


def _lifespan_functions(hook: Any) -> List[Callable[..., Any]]:
    """Return the startup and shutdown functions that a hook has."""
    return [getattr(hook, name) for name in ('on_startup', 'on_shutdown') if hasattr(hook, name)]


class Draining:
    """The draining of one application, done once.

    :param endpoints: its endpoints.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._task: Optional['asyncio.Task[None]'] = None

    async def drain(self, seconds: float) -> None:
        """Deny handshakes, and close all open connections; a second call waits for the first.

        :param seconds: the time over which to spread the closes.
        :raises ValueError: for a number below 0, or an infinite one.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError('drain(%r): give the seconds in which the connections are closed, 0 or more.' % seconds)
        if self._task is None:
            self._task = asyncio.ensure_future(self._drain(seconds))
        await asyncio.shield(self._task)

    async def _drain(self, seconds: float) -> None:
        for endpoint in self._endpoints:
            endpoint.drain()
        await _close_evenly(self._connections(), seconds)
        now = asyncio.get_running_loop().time
        deadline = now() + DRAIN_LINGER
        while self._connections() and now() < deadline:
            await asyncio.sleep(DRAIN_CHECK_INTERVAL)
        lingering = self._connections()
        if lingering:
            logger.warning(
                '%d handlers go on %g seconds after the drain, the one of %r among them.',
                len(lingering), DRAIN_LINGER, lingering[0],
            )  # fmt: skip

    def _connections(self) -> List[Connection]:
        return [connection for endpoint in self._endpoints for connection in endpoint.connections]


async def _close_evenly(connections: Sequence[Connection], seconds: float) -> None:
    """Close ``connections``, spread evenly over ``seconds``."""
    now = asyncio.get_running_loop().time
    begun = now()
    for number, connection in enumerate(connections):
        wait = begun + seconds * number / len(connections) - now()
        if wait > 0 or number % _CLOSES_PER_ITERATION == 0:
            await asyncio.sleep(max(wait, 0))
        if connection.state is WebSocketState.OPEN:
            connection.abort(CloseCode.SERVICE_RESTART, 'The server restarts')
        elif connection.ending.delivers_until is not None:
            connection.end_delivery()
