"""The conclusion of a connection after its handler, or after a failure before it."""

import asyncio
import functools
import logging
from typing import Any, Awaitable, Callable, Dict, NamedTuple, Optional, Sequence

from apistar import http

from apistar_ws.codes import CloseCode
from apistar_ws.connection.connection import Connection
from apistar_ws.connection.handshake import printable
from apistar_ws.connection.state import WebSocketState
from apistar_ws.connection.websocket import WebSocket, connection_of
from apistar_ws.exceptions import InvalidMessage, WebSocketDisconnect
from apistar_ws.injection.injector import ASyncInjector
from apistar_ws.injection.resources import OPENED, close_in_turn, opened_in, unwind_cancelled
from apistar_ws.injection.signatures import describe_handler
from apistar_ws.injection.steps import FAILED, State, note_failure
from apistar_ws.interruption import TimeLimit, ends_from_outside, withdraw_handled
from apistar_ws.log import RouteLog
from apistar_ws.outcomes import INTERNAL_ERROR, Outcome, outcome_of

logger = logging.getLogger('apistar_ws')

#: Seconds that a client has to read the close when the server cancels its handler.
CLOSE_TIMEOUT = 1.0
#: Seconds for hooks and resources, and for the response to their failure: the close is sent at the latest two seconds
#: after the handler has ended.
TIME_TO_CLOSE = 1.8
TIME_TO_FAIL = 1.9
#: Seconds at least for everything after the close, and for each part of it.
TIME_AFTER_CLOSE = 1.0
TIME_FOR_EACH = 0.1


class Hooks(NamedTuple):
    """The event hooks of one connection."""

    on_request: Sequence[Callable[..., Any]] = ()
    on_response: Sequence[Callable[..., Any]] = ()
    on_error: Sequence[Callable[..., Any]] = ()


class Conclusion:
    """The response, hooks, resources and close after one handler; made only if there are hooks, resources or an error.

    :param ws: the WebSocket.
    :param log: the log of its route.
    :param injector: runs the hooks and the application's exception handlers.
    :param hooks: the hooks of the connection.
    :param state: the injector's state, with the application.
    """

    def __init__(self, ws: WebSocket, log: RouteLog, injector: ASyncInjector, hooks: Hooks, state: State) -> None:
        self._ws = ws
        self._connection = connection_of(ws)
        self._log = log
        self._injector = injector
        self._hooks = hooks
        self._state = state

    async def after_exception(self, exc: BaseException) -> None:
        """Conclude the connection after ``exc``, which ended the handler or came before it.

        :raises BaseException: ``exc``, if it ends this task from outside.
        """
        await self._connection.interruption.release()
        if isinstance(exc, Exception):
            try:
                await withdraw_handled()
            except asyncio.CancelledError as cancelled:
                exc = cancelled
        ended_by: Optional[BaseException] = exc
        try:
            if ends_from_outside(exc):
                ended_by = await resumed(exc, self._state)
            if ended_by is exc and ends_from_outside(exc):
                await self._stop(exc)
                raise exc
            await self.run(ended_by)
        finally:
            # The exception refers to this frame: together they would wait for the garbage collector.
            del exc, ended_by

    async def _stop(self, exc: BaseException) -> None:
        """Conclude the connection when the server or the program ends the handler."""
        close_for_shutdown(self._connection, exc)
        if has_cleanup(self._hooks, self._state):
            is_server = isinstance(exc, asyncio.CancelledError)
            await self.run(WebSocketDisconnect(CloseCode.SERVICE_RESTART) if is_server else exc)
        await self._connection.finish(CLOSE_TIMEOUT)

    async def run(self, exc: Optional[BaseException]) -> None:
        """Make the response, run the hooks, close the resources, then the connection; or report what failed."""
        state, on_error = self._state, self._hooks.on_error
        state.update(exc=exc, return_value=None)
        traceback = None if exc is None else exc.__traceback__
        ended_at = asyncio.get_running_loop().time()
        await self._connection.interruption.release()
        try:
            with TimeLimit(TIME_TO_CLOSE):
                state['response'] = await self._response(exc)
                await self._injector.run_async(self._hooks.on_response, state)
                # The on_response hooks have run: on_error is not for a failure after them.
                on_error = ()
                await close_resources(state, exc)
            await self._answer(exc, state['response'])
        except BaseException as failure:
            if failure is exc:
                # Without the frames that raised it again.
                failure.__traceback__ = traceback
            await self._fail(failure, on_error, exc, ended_at)
            if state['scope'].get('raise_exceptions'):
                # Not of the ASGI specification: API Star's test client sets it, and ours.
                raise
        finally:
            # As in after_exception.
            state['exc'] = None
            # API Star's response to an error has the exception too.
            for key in (FAILED, 'response', 'return_value'):
                state.pop(key, None)
            del exc, traceback

    async def _response(self, exc: Optional[BaseException]) -> http.Response:
        """Return the response to ``exc``, which ended the handler.

        :raises BaseException: ``exc``, if the application has no response to it.
        """
        if exc is None or is_expected(exc, self._connection):
            return http.Response(b'', 403 if self._connection.is_refused else 101)
        note_failure(self._state, exc, None)
        try:
            raise exc
        except Exception:
            handler = self._state['app'].exception_handler
            response = await self._injector.run_async([handler], self._state)
            if not isinstance(response, http.Response) or not 100 <= response.status_code <= 999:
                raise
            return response
        finally:
            # As in after_exception.
            del exc

    async def _answer(self, exc: Optional[BaseException], response: http.Response) -> None:
        """Deny the handshake with the response, or close the connection as it says."""
        if self._connection.state is not WebSocketState.CONNECTING:
            return await close(
                self._connection, self._log, outcome_of(exc, response), exc is not None or response.status_code >= 300
            )
        self._log.write(logging.INFO, '%s: denied with %d.', name_of(self._connection), response.status_code)
        await self._deny(response)

    async def _deny(self, response: http.Response) -> None:
        if not 200 <= response.status_code <= 599:
            raise ValueError('A handshake cannot be denied with the status %r: use 200 to 599.' % response.status_code)
        try:
            await self._ws.deny(response.status_code, list(response.headers), response.content)
        except WebSocketDisconnect:
            logger.debug('%r: the client left before the denial.', self._ws)

    async def _fail(
        self,
        failure: BaseException,
        on_error: Sequence[Callable[..., Any]],
        exc: Optional[BaseException],
        ended_at: float,
    ) -> None:
        """Report an unexpected failure to the client, the log and the hooks, and close what is still open.

        :raises BaseException: an exception that ends this task from outside.
        """
        self._state['exc'] = failure
        log_failure(self._connection, failure, self._state)
        if ends_from_outside(failure):
            close_for_shutdown(self._connection, failure)
        cleanup = Cleanup(self._connection, self._state, failure)
        cleanup.deadline = ended_at + TIME_TO_FAIL
        await self._close_failed(failure, cleanup)
        cleanup.deadline = max(cleanup.deadline, asyncio.get_running_loop().time() + TIME_AFTER_CLOSE)
        for hook in on_error:
            await cleanup.run(self._injector.run_async([hook], self._state))
        while opened_in(self._state['scope']):
            await cleanup.run(close_resources(self._state, exc))
        if cleanup.stopped_by is not None:
            await self._connection.finish(CLOSE_TIMEOUT)
            raise cleanup.stopped_by

    async def _close_failed(self, failure: BaseException, cleanup: 'Cleanup') -> None:
        """Close with 1011, or deny with the application's response to an error."""
        if self._connection.state is WebSocketState.OPEN:
            await cleanup.run(self._connection.close(*INTERNAL_ERROR))
        self._state['response'] = http.JSONResponse('Server error', 500)
        traceback = failure.__traceback__
        try:
            raise failure
        except BaseException:
            await cleanup.run(self._ask_error_handler())
        finally:
            failure.__traceback__ = traceback
            del failure, traceback
        if self._connection.state is WebSocketState.CONNECTING:
            await cleanup.run(self._deny(self._state['response']))

    async def _ask_error_handler(self) -> None:
        self._state['response'] = await self._injector.run_async([self._state['app'].error_handler], self._state)


class Cleanup:
    """The work after a failure: each part runs whether or not the others fail.

    :param connection: the connection.
    :param state: the injector's state, with the function that failed.
    :param failure: the failure.
    """

    def __init__(self, connection: Connection, state: State, failure: BaseException) -> None:
        self._connection = connection
        self._state = state
        self._now = asyncio.get_running_loop().time
        #: When all of it has to be done, in the loop's time.
        self.deadline = 0.0
        #: The exception that ends the task from outside, if there is one.
        self.stopped_by = failure if ends_from_outside(failure) else None

    async def run(self, work: Awaitable[Any]) -> None:
        """Await ``work`` for a limited time; its failure is logged and does not stop the rest."""
        try:
            with TimeLimit(max(self.deadline - self._now(), TIME_FOR_EACH)):
                await work
        except BaseException as failure:
            log_failure(self._connection, failure, self._state)
            if ends_from_outside(failure):
                self.stopped_by = failure


def handshake_state(app: Any, route: Any, ws: WebSocket) -> State:
    """Return the initial state of the injector: API Star's, and the WebSocket."""
    connection = connection_of(ws)
    return {
        'scope': {**connection.scope, 'method': 'GET'},
        'receive': connection.server_receive,
        'send': connection.server_send,
        'exc': None,
        'app': app,
        'path_params': connection.path_params,
        'route': route,
        'websocket': ws,
    }


def has_cleanup(hooks: Hooks, state: Optional[State]) -> bool:
    """Return whether hooks or resources wait for the end of the handler."""
    return bool(hooks.on_response or hooks.on_error) or (state is not None and OPENED in state['scope'])


def is_expected(exc: BaseException, connection: Connection) -> bool:
    """Return whether ``exc`` is caused by the client, and not an error of the handler."""
    if isinstance(exc, WebSocketDisconnect):
        return connection.is_over
    return isinstance(exc, InvalidMessage) and connection.state is not WebSocketState.CONNECTING


async def resumed(exc: BaseException, state: State) -> Optional[BaseException]:
    """Return the exception that ended the handler, after closing the resources that may have cancelled it."""
    opened = opened_in(state['scope'])
    if not opened or not isinstance(exc, asyncio.CancelledError):
        return exc
    return await unwind_cancelled(opened, exc)


def close_for_shutdown(connection: Connection, exc: BaseException) -> None:
    """Close without waiting for the client, since the server or the program that raised ``exc`` does not wait."""
    if connection.state is WebSocketState.OPEN:
        connection.close_without_waiting(*outcome_of(exc))
    connection.note_disconnect({'code': CloseCode.SERVICE_RESTART})
    connection.own_ending().server_stops = True


async def close_resources(state: State, exc: Optional[BaseException]) -> None:
    """Close the resources of this connection, the last one first.

    :raises BaseException: of the first that fails; the others stay open.
    """
    await close_in_turn(opened_in(state['scope']), exc, functools.partial(note_failure, state))


async def close(connection: Connection, log: RouteLog, outcome: Outcome, is_logged: bool = True) -> None:
    """Close the connection, with a line of the log unless its handler has returned."""
    if is_logged and connection.state is WebSocketState.OPEN:
        log_close(connection, log, *outcome)
    await connection.close(*outcome)


def log_close(connection: Connection, log: RouteLog, code: int, reason: str) -> None:
    """Log a close that the package decides."""
    log.write(logging.INFO, '%s: closed with %d, %s.', name_of(connection), code, printable(reason))


def name_of(connection: Connection) -> str:
    """Return the path and the client of a connection, as the log names them."""
    host, port = connection.scope.get('client') or ('?', '?')
    return 'WebSocket %s from %s:%s' % (printable(connection.scope['path']), host, port)


def log_failure(connection: Connection, failure: BaseException, state: Dict[str, Any]) -> None:
    """Log an unexpected failure, by the name of the hook or component if it was one."""
    noted, func = state.get(FAILED, (None, None))
    if noted not in (failure, failure.__cause__) or func is None:
        name = 'the handshake' if connection.is_refused else 'the handler'
    else:
        name = describe_handler(func)
    if isinstance(failure, WebSocketDisconnect) and is_expected(failure, connection):
        logger.debug('%r: the client left while %s ran.', connection, name)
    else:
        logger.error('%r: %s failed.', connection, name, exc_info=failure)
