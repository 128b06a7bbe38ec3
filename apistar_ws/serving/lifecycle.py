"""The life of a connection in order: handshake, admission, hooks, accept, handler, conclusion."""

import asyncio
from typing import Any, Coroutine, Dict, Mapping, Optional, Sequence

from apistar.exceptions import HTTPException, NotFound

from apistar_ws.connection.connection import SLOW_HANDSHAKE, Connection, require_client
from apistar_ws.connection.handshake import with_root_path
from apistar_ws.connection.state import WebSocketState
from apistar_ws.connection.watch import Watch, Watches
from apistar_ws.connection.websocket import WebSocket, connection_of
from apistar_ws.injection.injector import ASyncInjector
from apistar_ws.injection.steps import State
from apistar_ws.interruption import current_task
from apistar_ws.log import RouteLog
from apistar_ws.outcomes import deciding_exception, outcome_of
from apistar_ws.routing.router import Found, WebSocketRouter
from apistar_ws.serving.conclusion import (
    Conclusion,
    Hooks,
    close,
    handshake_state,
    has_cleanup,
    is_expected,
    log_close,
)
from apistar_ws.serving.endpoint import Endpoint
from apistar_ws.settings import Settings
from apistar_ws.types import Receive, Scope, Send

NO_HOOKS = Hooks()
NO_STATE: Optional[State] = None


class Lifecycle:
    """Runs the WebSocket connections of one application.

    :param app: the application.
    :param router: finds the endpoint of a path.
    :param injector: runs hooks and components.
    :param settings: the application's.
    """

    def __init__(
        self, app: Any, router: WebSocketRouter[Endpoint], injector: ASyncInjector, settings: Settings
    ) -> None:
        self._app = app
        self._router = router
        self.endpoints = router.targets
        self._injector = injector
        self._settings = settings
        self.watches = Watches()
        self._log = RouteLog()

    def serve(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Run one connection from its handshake to its end."""
        watch = self.watches.current()
        try:
            endpoint, params = self._router.lookup(scope['path'])
        except HTTPException as exc:
            return self._refuse(exc, watch, scope, receive, send)
        return self._run(endpoint, params, watch, scope, receive, send)

    async def _run(
        self, endpoint: Endpoint, params: Mapping[str, Any], watch: Watch, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run one connection of an endpoint, whatever ends it."""
        connection = Connection(scope, receive, send, endpoint.settings, {**params}, current_task(watch.loop))
        ws, hooks, state = endpoint.make(connection), NO_HOOKS, NO_STATE
        message = await receive()
        watch.add(connection)
        try:
            connection.begin(message, watch.loop, endpoint.connect)
            endpoint.enter(connection)
            hooks = self._hooks()
            arguments = endpoint.arguments.given(ws, connection.path_params)
            if hooks.on_request or endpoint.arguments.injects:
                state = handshake_state(self._app, endpoint.route, ws)
                await self._inject(connection, endpoint, hooks, state, arguments)
            if connection.state is not WebSocketState.CLOSED and not connection.ending.is_refused:
                if endpoint.connect:
                    await ws.connect()
                handling = endpoint.handler(**arguments)
                del arguments, message  # Otherwise kept as long as the connection.
                if (returned := await handling) is not None:
                    await endpoint.returned.handle(ws, returned)
        except BaseException as exc:
            await self._end(ws, endpoint, hooks, state, deciding_exception(exc))
        else:
            is_last = hooks is NO_HOOKS and not state
            await (connection.close() if is_last else self._conclude(ws, endpoint, hooks, state))
        finally:
            if connection.is_unfinished:
                await finish(connection, endpoint.log, watch, endpoint)
            else:
                watch.remove(connection)
                endpoint.connections.discard(connection)

    async def _refuse(self, exc: HTTPException, watch: Watch, scope: Scope, receive: Receive, send: Send) -> None:
        """Deny a handshake without an endpoint, and run the hooks after it."""
        if isinstance(exc, Found):
            exc = Found(with_root_path(scope, exc.location))
        ws = WebSocket(scope, receive, send, self._settings, owner=current_task(watch.loop))
        connection, hooks = connection_of(ws), NO_HOOKS
        message = await receive()
        watch.add(connection)
        try:
            connection.begin(message, watch.loop)
            hooks = self._hooks()
            raise exc
        except BaseException as failure:
            await self._end(ws, None, hooks, None, failure)
        finally:
            # The exception refers to this frame.
            del exc
            await finish(connection, self._log, watch)

    def query_names(self, path: str) -> Sequence[str]:
        """Return the query parameters that the handler at ``path`` declares; none where there is no handler."""
        try:
            return self._router.lookup(path)[0].arguments.query_names
        except HTTPException:
            return ()

    def dry_run(self) -> 'Lifecycle':
        """Return a lifecycle that does everything but run the handler."""
        return DryRun(self._app, self._router, self._injector, self._settings)

    def _hooks(self) -> Hooks:
        """Return the event hooks for one connection."""
        return NO_HOOKS if self._app.event_hooks is None else Hooks(*self._app.get_event_hooks())

    async def _inject(
        self, connection: Connection, endpoint: Endpoint, hooks: Hooks, state: State, arguments: Dict[str, Any]
    ) -> None:
        """Run the hooks, then the components, and add what these supply to the arguments."""
        now = asyncio.get_running_loop().time
        started = now()
        plan = endpoint.arguments.plan(hooks.on_request)
        await plan.run(hooks.on_request, state)
        arguments.update(endpoint.arguments.resolved(plan, state))
        if now() - started > SLOW_HANDSHAKE and connection.state is WebSocketState.CONNECTING:
            await require_client(connection)

    async def _conclude(self, ws: WebSocket, endpoint: Endpoint, hooks: Hooks, state: Optional[State]) -> None:
        """Conclude a connection whose handler has returned."""
        if not has_cleanup(hooks, state):
            return await connection_of(ws).close()
        state = state or handshake_state(self._app, endpoint.route, ws)
        await Conclusion(ws, endpoint.log, self._injector, hooks, state).run(None)

    async def _end(
        self, ws: WebSocket, endpoint: Optional[Endpoint], hooks: Hooks, state: Optional[State], exc: BaseException
    ) -> None:
        """Conclude a connection after an exception of the handler, or before it."""
        connection, log, route = connection_of(ws), self._log, None
        if endpoint is not None:
            log, route = endpoint.log, endpoint.route
            if connection.state is WebSocketState.CONNECTING:
                # A handshake that is being denied does not count.
                endpoint.connections.discard(connection)
        interruption = connection.interruption
        if isinstance(exc, asyncio.CancelledError) and interruption.was_ours(interruption.owner):
            exc = connection.as_disconnect()
        try:
            if is_expected(exc, connection) and not has_cleanup(hooks, state):
                return await close(connection, log, outcome_of(exc))
            state = state or handshake_state(self._app, route, ws)
            await Conclusion(ws, log, self._injector, hooks, state).after_exception(exc)
        finally:
            # The exception refers to this frame: together they would wait for the garbage collector.
            del exc


class DryRun(Lifecycle):
    """Answers handshakes without running a handler; see :meth:`Lifecycle.dry_run`."""

    def _run(
        self, endpoint: Endpoint, params: Mapping[str, Any], watch: Watch, scope: Scope, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        if not endpoint.documented:
            # Its existence is not revealed.
            return self._refuse(NotFound(), watch, scope, receive, send)
        return super()._run(endpoint.without_handler(), params, watch, scope, receive, send)


async def finish(connection: Connection, log: RouteLog, watch: Watch, endpoint: Optional[Endpoint] = None) -> None:
    """Leave nothing running; a close that the client does not read is given up when the server goes down."""
    try:
        await connection.finish()
    except asyncio.CancelledError:
        if not connection.interruption.was_ours(connection.interruption.owner):
            raise
    finally:
        if connection.ending.broke_limit:
            log_close(connection, log, connection.close_code or 0, connection.close_reason or '')
        watch.remove(connection)
        if endpoint is not None:
            endpoint.connections.discard(connection)
