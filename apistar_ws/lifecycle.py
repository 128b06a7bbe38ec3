"""The life of a connection, top to bottom: handshake, admission, hooks, accept, handler, close or denial, report."""

import asyncio
import logging
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Protocol, Sequence

from apistar import http
from apistar.exceptions import HTTPException

from apistar_ws.ending import WebSocketState
from apistar_ws.endpoint import Endpoint, Refusal
from apistar_ws.exceptions import InvalidMessage, WebSocketDisconnect, close_for, deciding_exception, is_answer
from apistar_ws.injection import ASyncInjector, State
from apistar_ws.interruption import current_task, is_cancelled
from apistar_ws.router import WebSocketRouter
from apistar_ws.settings import Settings
from apistar_ws.types import Message, Receive, Scope, Send
from apistar_ws.watch import Watch, Watched, Watches
from apistar_ws.websocket import QUICK, WebSocket

logger = logging.getLogger('apistar_ws')


class Application(Protocol):
    """What the lifecycle asks of an application of API Star's."""

    event_hooks: Any

    def get_event_hooks(self) -> Iterable[Sequence[Callable[..., Any]]]:
        """Return the event hooks of one connection."""

    def exception_handler(self, exc: Exception) -> http.Response:
        """Return the response to an exception, or raise it again."""

    def error_handler(self) -> http.Response:
        """Return the response to an exception that nobody expected."""


class Conducted(Watched, Protocol):
    """What the lifecycle uses of a WebSocket, beside what a handler may use of it."""

    scope: Scope
    state: WebSocketState
    path_params: Mapping[str, Any]
    _server_receive: Receive
    _server_send: Send
    _is_unfinished: bool

    @property
    def disconnected(self) -> bool:
        """Whether the connection is over, and not because the handler closed it."""

    def _begin(self, message: Message, loop: asyncio.AbstractEventLoop, connects: bool) -> None:
        """Take the handshake."""

    async def _require_client(self) -> None:
        """Make sure that the client is still there."""

    async def connect(self) -> None:
        """Accept."""

    async def _close(self, code: int = 1000, reason: str = '') -> None:
        """Close, with what may be sent."""

    def _give_up(self, code: int, reason: str) -> None:
        """Close without waiting for the client."""

    async def _finish(self, patience: Optional[float] = None) -> None:
        """Leave nothing running."""


class Hooks(NamedTuple):
    """The event hooks of one connection."""

    on_request: Sequence[Callable[..., Any]] = ()
    on_response: Sequence[Callable[..., Any]] = ()
    on_error: Sequence[Callable[..., Any]] = ()


NO_HOOKS = Hooks()
#: Seconds that a client has to take the close when the server cancels its handler.
PATIENCE = 1.0


class Lifecycle:
    """Conducts the WebSockets of one application.

    :param app: the application.
    :param router: finds the endpoint of a path.
    :param injector: runs hooks and components.
    :param settings: the application's.
    """

    def __init__(
        self, app: Application, router: WebSocketRouter[Endpoint], injector: ASyncInjector, settings: Settings
    ) -> None:
        self._app = app
        self._router = router
        self.endpoints = router.targets
        self._injector = injector
        self._settings = settings
        self.watches = Watches()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Conduct one connection from its handshake to its end, whatever ends it."""
        try:
            endpoint, path_params = self._router.lookup(scope['path'])
        except HTTPException as exc:
            endpoint, path_params = Refusal(exc, self._settings), {}
        watch = self.watches.current()
        ws: Conducted = endpoint.open(scope, receive, send, path_params, current_task(watch.loop))
        hooks: Optional[Hooks] = None
        state: Optional[State] = None
        message = await receive()
        watch.add(ws)
        try:
            ws._begin(message, watch.loop, endpoint.connect)
            endpoint.enter(ws)
            arguments = endpoint.arguments.given(ws)
            hooks = NO_HOOKS if self._app.event_hooks is None else self._hooks()
            if hooks.on_request or endpoint.injects:
                state = self._state(ws, endpoint)
                if not await self._inject(ws, endpoint, hooks, state, arguments):
                    return
            if endpoint.connect:
                await ws.connect()
            await endpoint.handler(**arguments)
            await ws._close()
        except BaseException as exc:
            await self._end(ws, endpoint, deciding_exception(exc), hooks, state)
        finally:
            if ws._is_unfinished:
                await self._finish(ws, watch, endpoint)
            else:
                watch.remove(ws)
                endpoint.leave(ws)

    def _hooks(self) -> Hooks:
        """Return the event hooks for one connection; those given as classes are made anew, as API Star does."""
        return Hooks(*self._app.get_event_hooks())

    async def _inject(
        self, ws: Conducted, endpoint: Endpoint, hooks: Hooks, state: State, arguments: Dict[str, Any]
    ) -> bool:
        """Run the hooks, then components, add what they supply to the arguments, and tell whether to go on.

        A hook that closes has refused the handshake.
        """
        now = asyncio.get_running_loop().time
        begun = now()
        arguments.update(await endpoint.arguments.resolve(hooks.on_request, state))
        if now() - begun > QUICK and ws.state is WebSocketState.CONNECTING:
            await ws._require_client()
        return ws.state is not WebSocketState.CLOSED

    def _state(self, ws: Conducted, endpoint: Endpoint) -> State:
        """Return what the injector starts from, as API Star has it, and the WebSocket."""
        return {
            'scope': {**ws.scope, 'method': 'GET'},
            'receive': ws._server_receive,
            'send': ws._server_send,
            'exc': None,
            'app': self._app,
            'path_params': ws.path_params,
            'route': endpoint.route,
            'websocket': ws,
        }

    # The end

    async def _end(
        self, ws: Conducted, endpoint: Endpoint, exc: BaseException, hooks: Optional[Hooks], state: Optional[State]
    ) -> None:
        """Tell the client, the log and the hooks of what ended the handler, or came before it."""
        interruption = ws._interruption
        if isinstance(exc, asyncio.CancelledError) and interruption.was_ours(interruption.owner):
            return
        # A task that the handler awaits may have been cancelled, and not the handler.
        if not isinstance(exc, Exception) and (is_cancelled() or not isinstance(exc, asyncio.CancelledError)):
            await self._stop(ws, exc)
            raise exc
        if ws.state is WebSocketState.OPEN:
            await ws._close(*close_for(exc))
        await interruption.release()
        if ws.state is WebSocketState.CONNECTING:
            # One that is being refused takes nobody's place.
            endpoint.leave(ws)
            await self._deny(exc, state or self._state(ws, endpoint), hooks)
        elif not is_expected(exc, ws):
            await self._report(exc, state or self._state(ws, endpoint), hooks or NO_HOOKS)

    async def _stop(self, ws: Conducted, exc: BaseException) -> None:
        """Tell the client, if it listens, that somebody else ends the handler: the server, or the program."""
        if ws.state is WebSocketState.OPEN:
            ws._give_up(*close_for(exc))
            await ws._finish(PATIENCE)

    async def _deny(self, exc: BaseException, state: State, hooks: Optional[Hooks]) -> None:
        """Answer the handshake as API Star answers a request whose handler raised ``exc``."""
        state['exc'] = exc
        try:
            if hooks is None:
                hooks = NO_HOOKS if self._app.event_hooks is None else self._hooks()
            await self._answer([self._app.exception_handler, *hooks.on_response], state)
        except (Exception, asyncio.CancelledError) as inner:
            if isinstance(inner, asyncio.CancelledError) and is_cancelled():
                raise
            await self._fail(inner, state, hooks or NO_HOOKS)

    async def _fail(self, exc: BaseException, state: State, hooks: Hooks) -> None:
        """Answer the handshake with 500, since making a denial has failed, unless the client has left meanwhile."""
        ws: WebSocket = state['websocket']
        if isinstance(exc, WebSocketDisconnect) and ws.state is not WebSocketState.CONNECTING:
            logger.debug('%r: the client left before the denial.', ws)
            return
        await self._report(exc, state, hooks)
        await self._answer([self._app.error_handler], state)

    async def _answer(self, funcs: Sequence[Callable[..., Any]], state: State) -> None:
        """Run what makes and changes the response, and deny the handshake with it."""
        await self._injector.run_async([*funcs, self._finalize_denial], state)

    async def _finalize_denial(self, response: http.Response, ws: WebSocket) -> None:
        if not 100 <= response.status_code <= 599:
            raise ValueError('A handshake cannot be denied with the status %r.' % response.status_code)
        # A hook may have closed, which is an answer.
        if ws.state is not WebSocketState.CLOSED:
            await ws.deny(response.status_code, list(response.headers), response.content)

    async def _report(self, exc: BaseException, state: State, hooks: Hooks) -> None:
        """Log an exception that nobody expected, and run the ``on_error`` hooks."""
        logger.error('%r: the handler failed.', state['websocket'], exc_info=exc)
        state['exc'] = exc
        try:
            await self._injector.run_async(hooks.on_error, state)
        except Exception:
            logger.exception('%r: an on_error hook failed.', state['websocket'])
        if state['scope'].get('raise_exceptions'):
            # Not of the ASGI specification: API Star's test client says so, and ours.
            raise exc

    async def _finish(self, ws: Conducted, watch: Watch, endpoint: Endpoint) -> None:
        """Leave nothing running; a close that the client does not take is given up when the server goes down."""
        try:
            await ws._finish()
        except asyncio.CancelledError:
            if not ws._interruption.was_ours(ws._interruption.owner):
                raise
        finally:
            watch.remove(ws)
            endpoint.leave(ws)


def is_expected(exc: BaseException, ws: Conducted) -> bool:
    """Tell whether ``exc`` is a way for a handler to end, which the client has been told of, and no error."""
    if isinstance(exc, WebSocketDisconnect):
        return ws.disconnected
    return isinstance(exc, InvalidMessage) or is_answer(exc)
