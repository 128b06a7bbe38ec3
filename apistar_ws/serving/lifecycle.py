"""The life of a connection, top to bottom: handshake, admission, hooks, accept, handler, close or denial, report."""

import asyncio
import contextlib
import functools
import logging
from typing import Any, Awaitable, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple

from apistar import http
from apistar.exceptions import HTTPException, NotFound

from apistar_ws.codes import CloseCode
from apistar_ws.connection.connection import WebSocketState
from apistar_ws.connection.handshake import printable, with_root_path
from apistar_ws.connection.watch import Watch, Watched, Watches
from apistar_ws.connection.websocket import QUICK
from apistar_ws.exceptions import (
    INTERNAL_ERROR,
    InvalidMessage,
    WebSocketDisconnect,
    close_for,
    close_for_response,
    deciding_exception,
)
from apistar_ws.injection.injector import ASyncInjector
from apistar_ws.injection.resources import OPENED, close_in_turn, opened_in, unwind
from apistar_ws.injection.signatures import describe_handler
from apistar_ws.injection.steps import FAILED, State, note_failure
from apistar_ws.interruption import TimeLimit, current_task, ends_from_outside, was_taken_back
from apistar_ws.log import RouteLog
from apistar_ws.routing.router import Found, WebSocketRouter
from apistar_ws.serving.endpoint import Admitted, Endpoint, Refusal
from apistar_ws.settings import Settings
from apistar_ws.types import Message, Receive, Scope, Send

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


class Conducted(Watched, Admitted, Protocol):
    """What the lifecycle uses of a WebSocket, beside what a handler may use of it."""

    scope: Scope
    path_params: Mapping[str, Any]
    _server_receive: Receive
    _server_send: Send
    _is_unfinished: bool
    _server_stops: bool

    def _begin(self, message: Message, loop: asyncio.AbstractEventLoop, connects: bool) -> None:
        """Take the handshake."""

    async def _require_client(self) -> None:
        """Make sure that the client is still there."""

    async def connect(self) -> None:
        """Accept."""

    async def _close(self, code: int = 1000, reason: str = '') -> None:
        """Close, with what may be sent."""

    @property
    def _is_refused(self) -> bool:
        """Whether it was never accepted, and not because the client left."""

    async def deny(self, status: int, headers: Iterable[Tuple[str, str]] = (), body: bytes = b'') -> None:
        """Answer the handshake with a response."""

    @property
    def close_reason(self) -> Optional[str]:
        """The close reason, once it is over."""

    def _disconnected(self, message: Message) -> None:
        """Note that the connection is over."""

    @property
    def _was_broken(self) -> bool:
        """Whether the package has closed it, for a limit."""

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
NO_STATE: Optional[State] = None
#: Seconds that a client has to take the close when the server cancels its handler.
PATIENCE = 1.0
#: Seconds that the hooks and resources may take, and what is done where they fail: the close goes out at the latest two
#: seconds after the handler has ended.
TIME_TO_CLOSE = 1.8
TIME_TO_FAIL = 1.9
#: Seconds that all that comes after the close has at least, and each of it.
TIME_AFTER = 1.0
TIME_FOR_EACH = 0.1


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
        self._log = RouteLog()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Conduct one connection from its handshake to its end, whatever ends it."""
        endpoint, params = self._find(scope)
        watch = self.watches.current()
        ws: Conducted = endpoint.make(scope, receive, send, endpoint.settings, {**params}, current_task(watch.loop))
        hooks, state = NO_HOOKS, NO_STATE
        message = await receive()
        watch.add(ws)
        try:
            ws._begin(message, watch.loop, endpoint.connect)
            endpoint.enter(ws)
            hooks = NO_HOOKS if self._app.event_hooks is None else self._hooks()
            arguments = endpoint.arguments.given(ws)
            state = self._state(ws, endpoint) if hooks.on_request or endpoint.injects else None
            if state is None or await self._inject(ws, endpoint, hooks, state, arguments):
                if endpoint.connect:
                    await ws.connect()
                handling = endpoint.handler(**arguments)
                # Nobody needs them any more, and they would stay for as long as the connection.
                del arguments, message
                if (returned := await handling) is not None:
                    await endpoint.returned.take(ws, returned)
        except BaseException as exc:
            await self._end(ws, endpoint, deciding_exception(exc), hooks, state)
        else:
            is_last = (hooks is NO_HOOKS and state is None) or not follows(hooks, state)
            await (ws._close() if is_last else self._conclude(ws, endpoint, None, hooks, state))
        finally:
            if ws._is_unfinished:
                await self._finish(ws, watch, endpoint)
            else:
                watch.remove(ws)
                endpoint.leave(ws)

    def _find(self, scope: Scope) -> Tuple[Endpoint, Mapping[str, Any]]:
        """Return the endpoint of a path and its parameters, or one that refuses."""
        try:
            return self._router.lookup(scope['path'])
        except Found as exc:
            redirect = Found(with_root_path(scope, exc.location))
            return Refusal(redirect, self._settings, self._log), {}
        except HTTPException as exc:
            return Refusal(exc, self._settings, self._log), {}

    def rehearsal(self) -> 'Lifecycle':
        """Return one that does all that comes before a handler, and what follows its end, without the handler."""
        return Rehearsal(self._app, self._router, self._injector, self._settings)

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
        self, ws: Conducted, endpoint: Endpoint, exc: BaseException, hooks: Hooks, state: Optional[State]
    ) -> None:
        """Find out what has ended the handler, or came before it, and do what follows."""
        interruption = ws._interruption
        if isinstance(exc, asyncio.CancelledError) and interruption.was_ours(interruption.owner):
            exc = WebSocketDisconnect(ws.close_code or CloseCode.ABNORMAL_CLOSURE, ws.close_reason or '')
        if ws.state is WebSocketState.CONNECTING:
            # One that is being refused takes nobody's place.
            endpoint.leave(ws)
        ended_by: Optional[BaseException] = exc
        try:
            if ends_from_outside(exc):
                ended_by = await resumed(exc, state)
            if ended_by is exc and ends_from_outside(exc):
                await self._stop(ws, endpoint, exc, hooks, state)
                raise exc
            if ended_by is not None and is_expected(ended_by, ws) and not follows(hooks, state):
                await self._close(ws, endpoint, *close_for(ended_by))
            else:
                await self._conclude(ws, endpoint, ended_by, hooks, state)
        finally:
            # What was raised holds this frame: together they would wait for the garbage collector.
            del exc, ended_by

    async def _stop(
        self, ws: Conducted, endpoint: Endpoint, exc: BaseException, hooks: Hooks, state: Optional[State]
    ) -> None:
        """Do what follows when somebody else ends the handler: the server, or the program."""
        leave_to(exc, ws)
        if follows(hooks, state):
            is_server = isinstance(exc, asyncio.CancelledError)
            ended_by = WebSocketDisconnect(CloseCode.SERVICE_RESTART) if is_server else exc
            await self._conclude(ws, endpoint, ended_by, hooks, state)
        await ws._finish(PATIENCE)

    async def _conclude(
        self, ws: Conducted, endpoint: Endpoint, exc: Optional[BaseException], hooks: Hooks, state: Optional[State]
    ) -> None:
        """Make the response, run the hooks, close the resources, tell the client; or tell everybody what has failed."""
        state = state or self._state(ws, endpoint)
        state.update(exc=exc, return_value=None)
        on_error, ended_at = hooks.on_error, asyncio.get_running_loop().time()
        await ws._interruption.release()
        try:
            with TimeLimit(TIME_TO_CLOSE):
                state['response'] = await self._response(ws, exc, state)
                await self._injector.run_async(hooks.on_response, state)
                # Each hook has had its turn.
                on_error = ()
                await close_resources(state, exc)
            await self._answer(ws, endpoint, exc, state['response'])
        except BaseException as failure:
            await self._fail(ws, failure, on_error, state, exc, ended_at)
            if state['scope'].get('raise_exceptions'):
                # Not of the ASGI specification: API Star's test client says so, and ours.
                raise
        finally:
            # As in _end.
            state['exc'] = None
            state.pop(FAILED, None)
            del exc

    async def _response(self, ws: Conducted, exc: Optional[BaseException], state: State) -> http.Response:
        """Return the response that stands for what has ended the handler.

        :raises BaseException: ``exc``, if the application has no response to it.
        """
        if exc is None or is_expected(exc, ws):
            return http.Response(b'', 403 if ws._is_refused else 101)
        note_failure(state, exc, None)
        try:
            raise exc
        except Exception:
            response = await self._injector.run_async([self._app.exception_handler], state)
            if not isinstance(response, http.Response) or not 100 <= response.status_code <= 999:
                raise
            return response
        finally:
            # As in _end.
            del exc

    async def _answer(
        self, ws: Conducted, endpoint: Endpoint, exc: Optional[BaseException], response: http.Response
    ) -> None:
        """Tell the client: deny the handshake with the response, or close the connection with what it says."""
        if ws.state is WebSocketState.CONNECTING:
            endpoint.log.tell(logging.INFO, '%s: denied with %d.', name_of(ws), response.status_code)
            await self._deny(ws, response)
        elif isinstance(exc, InvalidMessage) and response.status_code == 101:
            await self._close(ws, endpoint, *close_for(exc))
        elif exc is None and response.status_code < 300:
            await ws._close()
        else:
            await self._close(ws, endpoint, *close_for_response(response, exc))

    async def _close(self, ws: Conducted, endpoint: Endpoint, code: int, reason: str) -> None:
        if ws.state is WebSocketState.OPEN:
            note_close(ws, endpoint, code, reason)
        await ws._close(code, reason)

    async def _deny(self, ws: Conducted, response: http.Response) -> None:
        if not 100 <= response.status_code <= 599:
            raise ValueError('A handshake cannot be denied with the status %r.' % response.status_code)
        try:
            await ws.deny(response.status_code, list(response.headers), response.content)
        except WebSocketDisconnect:
            logger.debug('%r: the client left before the denial.', ws)

    async def _fail(
        self,
        ws: Conducted,
        failure: BaseException,
        on_error: Sequence[Callable[..., Any]],
        state: State,
        exc: Optional[BaseException],
        ended_at: float,
    ) -> None:
        """Tell the client, the log and the hooks of what nobody expected, and close what is still open.

        :raises BaseException: what ends this task from outside.
        """
        state['exc'] = failure
        log_failure(ws, failure, state)
        if ends_from_outside(failure):
            leave_to(failure, ws)
        attempts = Attempts(ws, state, failure)
        attempts.until(ended_at + TIME_TO_FAIL)
        await self._tell(ws, failure, state, attempts)
        attempts.until(max(ended_at + TIME_TO_FAIL, asyncio.get_running_loop().time() + TIME_AFTER))
        for hook in on_error:
            await attempts.make(self._injector.run_async([hook], state))
        while opened_in(state['scope']):
            await attempts.make(close_resources(state, exc))
        if attempts.stop is not None:
            await ws._finish(PATIENCE)
            raise attempts.stop

    async def _tell(self, ws: Conducted, failure: BaseException, state: State, attempts: 'Attempts') -> None:
        """Close with 1011, or deny with what the application says of an error."""
        if ws.state is WebSocketState.OPEN:
            await attempts.make(ws._close(*INTERNAL_ERROR))
        state['response'] = http.JSONResponse('Server error', 500)
        try:
            raise failure
        except BaseException:
            await attempts.make(self._ask_error_handler(state))
        if ws.state is WebSocketState.CONNECTING:
            await attempts.make(self._deny(ws, state['response']))

    async def _ask_error_handler(self, state: State) -> None:
        state['response'] = await self._injector.run_async([self._app.error_handler], state)

    async def _finish(self, ws: Conducted, watch: Watch, endpoint: Endpoint) -> None:
        """Leave nothing running; a close that the client does not take is given up when the server goes down."""
        try:
            await ws._finish()
        except asyncio.CancelledError:
            if not ws._interruption.was_ours(ws._interruption.owner):
                raise
        finally:
            if ws._was_broken:
                note_close(ws, endpoint, ws.close_code or 0, ws.close_reason or '')
            watch.remove(ws)
            endpoint.leave(ws)


class Rehearsal(Lifecycle):
    """Conducts handshakes, up to the accept and no further; see :meth:`Lifecycle.rehearsal`."""

    def _find(self, scope: Scope) -> Tuple[Endpoint, Mapping[str, Any]]:
        endpoint, params = super()._find(scope)
        if not endpoint.documented:
            # Like a path that leads nowhere: who asks may not even know of it.
            return Refusal(NotFound(), self._settings, self._log), {}
        return endpoint.without_handler(), params


class Attempts:
    """What is done after something has failed, each whatever becomes of the others.

    :param ws: the connection.
    :param state: knows which function has failed.
    :param failure: what has failed.
    """

    def __init__(self, ws: Conducted, state: State, failure: BaseException) -> None:
        self._ws = ws
        self._state = state
        self._now = asyncio.get_running_loop().time
        self._deadline = 0.0
        #: What ends the task from outside, if something does.
        self.stop = failure if ends_from_outside(failure) else None

    def until(self, deadline: float) -> None:
        """Take no longer than until then, in the loop's time, together."""
        self._deadline = deadline

    async def make(self, work: Awaitable[Any]) -> None:
        """Await ``work``, but not for long; a failure of it is logged and holds nothing else up."""
        try:
            with TimeLimit(max(self._deadline - self._now(), TIME_FOR_EACH)):
                await work
        except BaseException as failure:
            log_failure(self._ws, failure, self._state)
            if ends_from_outside(failure):
                self.stop = failure


def follows(hooks: Hooks, state: Optional[State]) -> bool:
    """Tell whether hooks or resources wait for the end of the handler."""
    return bool(hooks.on_response or hooks.on_error) or (state is not None and OPENED in state['scope'])


def is_expected(exc: BaseException, ws: Conducted) -> bool:
    """Tell whether ``exc`` is a way for a handler to end that comes from the client, and no error."""
    if isinstance(exc, WebSocketDisconnect):
        return ws.state in (WebSocketState.CLOSED, WebSocketState.DISCONNECTED)
    return isinstance(exc, InvalidMessage) and ws.state is not WebSocketState.CONNECTING


async def resumed(exc: BaseException, state: Optional[State]) -> Optional[BaseException]:
    """Return what has ended the handler, once the resources were closed that may have cancelled it themselves.

    A task group or a time limit in a resource cancels the task, and takes that back when the resource is closed.
    """
    opened = opened_in(state['scope']) if state is not None else None
    if not opened or not isinstance(exc, asyncio.CancelledError):
        return exc
    made: Optional[BaseException] = exc
    # One that goes on awaiting is cancelled, which it makes something of like of any exception.
    with contextlib.suppress(TimeoutError), TimeLimit(TIME_TO_CLOSE):
        made = await unwind(opened, exc)
    try:
        if was_taken_back(made):
            return made
        if made is not None and not isinstance(made, asyncio.CancelledError):
            logger.error('A resource failed when it was closed.', exc_info=made)
        return exc
    finally:
        del exc, made


def leave_to(exc: BaseException, ws: Conducted) -> None:
    """Have the connection end without waiting for the client: whoever ends the handler by ``exc`` does not wait."""
    if ws.state is WebSocketState.OPEN:
        ws._give_up(*close_for(exc))
    ws._disconnected({'code': CloseCode.SERVICE_RESTART})
    ws._server_stops = True


async def close_resources(state: State, exc: Optional[BaseException]) -> None:
    """Close what components have opened for this connection, what was opened last first.

    :raises BaseException: what the first that fails raises; the others are left open.
    """
    await close_in_turn(opened_in(state['scope']), exc, functools.partial(note_failure, state))


def note_close(ws: Conducted, endpoint: Endpoint, code: int, reason: str) -> None:
    """Have a line of the log for a close that the package decides."""
    endpoint.log.tell(logging.INFO, '%s: closed with %d, %s.', name_of(ws), code, printable(reason))


def name_of(ws: Conducted) -> str:
    """Return the path and the client of a connection, as the log names them."""
    host, port = ws.scope.get('client') or ('?', '?')
    return 'WebSocket %s from %s:%s' % (printable(ws.scope['path']), host, port)


def log_failure(ws: Conducted, failure: BaseException, state: State) -> None:
    """Log what nobody expected, by the name of the hook or component where it was one."""
    noted, func = state.get(FAILED, (None, None))
    if noted not in (failure, failure.__cause__) or func is None:
        name = 'the handshake' if ws._is_refused else 'the handler'
    else:
        name = describe_handler(func)
    if isinstance(failure, WebSocketDisconnect) and is_expected(failure, ws):
        logger.debug('%r: the client left while %s ran.', ws, name)
    else:
        logger.error('%r: %s failed.', ws, name, exc_info=failure)
