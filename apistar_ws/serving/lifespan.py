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

#: Where the injector puts what ``StartupResourcesComponent`` supplies.
STARTUP_RESOURCES = OpenedResources.__name__.lower()
#: Seconds that handlers have to end after the last close.
DRAIN_LINGER = 5.0
#: Seconds between two checks whether they have.
DRAIN_CHECK_INTERVAL = 0.05
#: Connections that are closed in one iteration of the event loop, however little time there is.
CLOSES_PER_ITERATION = 100


class StartupResourcesComponent(Component):  # type: ignore[misc]
    """Supplies the list that a resource is added to that a hook asks for while there is no request."""

    def resolve(self) -> OpenedResources:
        """Return the list of this hook."""
        return OpenedResources()


class Startup:
    """Starts and stops one application, once each, whoever asks for it.

    :param app: the application.
    :param components: its components; those that need a request are not there for these hooks.
    :param note_lifespan: is told when the lifespan begins, and with True when it ends.
    """

    def __init__(self, app: Any, components: Sequence[Component], note_lifespan: Callable[[bool], None]) -> None:
        self._app = app
        self._note_lifespan = note_lifespan
        others = [item for item in components if not isinstance(item, OpenedResourcesComponent)]
        #: Components that start and stop with the application, where a server says when.
        self._lifelong = [item for item in others if functions_of(item)]
        self._injector = ASyncInjector([StartupResourcesComponent(), *others], {'app': App})
        self._made: Dict[Any, Any] = {}
        self._started: List[Any] = []
        self._starting: Optional['asyncio.Task[None]'] = None
        #: Whether requests may be served.
        self.is_done = False
        # Of a test the next one may have an event loop of its own, and start the application anew.
        self._stopped_in: Callable[[], Optional[asyncio.AbstractEventLoop]] = nowhere

    @property
    def is_over(self) -> bool:
        """Whether the server of this event loop has stopped the application, so that nothing is served any more."""
        return self._stopped_in() is asyncio.get_running_loop()

    def check(self) -> None:
        """Refuse hooks that could not run.

        :raises ConfigurationError: for what belongs to a request, or what nobody supplies.
        """
        for hook in (*self._lifelong, *self._hooks()):
            for func in functions_of(hook):
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
        """Yield the hooks that have something to start or stop; of a class, the one instance for both."""
        for hook in self._app.event_hooks or ():
            if not hasattr(hook, 'on_startup') and not hasattr(hook, 'on_shutdown'):
                continue
            if isinstance(hook, type) and hook not in self._made:
                self._made[hook] = hook()
            yield self._made[hook] if isinstance(hook, type) else hook

    async def start(self, components: Sequence[Component] = ()) -> None:
        """Run ``on_startup`` of ``components`` and each hook; if one fails, stop those that have started.

        :raises Exception: what it has raised.
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
        """Run ``on_shutdown`` of each hook that has started, the last one first, and return what they have raised."""
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
            await close_rest(state.get(STARTUP_RESOURCES) or OpenedResources(), exc)
            raise
        await close_all(state.get(STARTUP_RESOURCES) or OpenedResources(), functools.partial(note_failure, state))

    async def ensure(self) -> None:
        """Start, if nobody has: where a server has no lifespan, the first request does it, and the others wait.

        :raises Exception: what a hook has raised; the next request tries again.
        """
        if next(self._hooks(), None) is None:
            self.is_done = True
            return
        starting = self._starting
        if starting is None or starting.done() or starting.get_loop() is not asyncio.get_running_loop():
            self._starting = starting = asyncio.ensure_future(self.start())
        # A client that leaves does not keep the application from starting.
        await asyncio.shield(starting)

    async def serve_lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop when the server says so (ASGI lifespan protocol)."""
        await receive()
        self._note_lifespan(False)
        self._stopped_in = nowhere
        try:
            await self.start(self._lifelong)
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


def nowhere() -> None:
    """Return no event loop: the application has been stopped in none."""


def functions_of(hook: Any) -> List[Callable[..., Any]]:
    """Return what a hook has to run at the start and the end."""
    return [getattr(hook, name) for name in ('on_startup', 'on_shutdown') if hasattr(hook, name)]


class Draining:
    """Sends the clients of one application away, once.

    :param endpoints: its routes.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints
        self._task: Optional['asyncio.Task[None]'] = None

    async def drain(self, seconds: float) -> None:
        """Refuse handshakes, and close what is open within so many seconds; a second call waits for the first.

        :raises ValueError: for a number below 0, or without an end.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError('drain(%r): give the seconds in which the connections are closed, 0 or more.' % seconds)
        if self._task is None:
            self._task = asyncio.ensure_future(self._drain(seconds))
        await asyncio.shield(self._task)

    async def _drain(self, seconds: float) -> None:
        for endpoint in self._endpoints:
            endpoint.drain()
        await close_evenly(self._connections(), seconds)
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


async def close_evenly(connections: Sequence[Connection], seconds: float) -> None:
    """Close ``connections``, spread evenly over so many seconds."""
    now = asyncio.get_running_loop().time
    begun = now()
    for number, connection in enumerate(connections):
        wait = begun + seconds * number / len(connections) - now()
        if wait > 0 or number % CLOSES_PER_ITERATION == 0:
            await asyncio.sleep(max(wait, 0))
        if connection.state is WebSocketState.OPEN:
            connection.abort(CloseCode.SERVICE_RESTART, 'The server restarts')
