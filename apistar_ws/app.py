"""API Star's ``ASyncApp`` with WebSockets: one application for HTTP, handshakes and the lifespan."""

import asyncio
import functools
import inspect
import logging
import sys
from typing import Any, Callable, Container, Dict, List, NamedTuple, Optional, Sequence, Set

import apistar
from apistar import http
from apistar.exceptions import ConfigurationError, HTTPException
from apistar.server.app import App
from apistar.server.asgi import ASGI_COMPONENTS, ASGIReceive, ASGIScope, ASGISend
from apistar.server.components import Component
from apistar.server.core import Route
from apistar.server.validation import VALIDATION_COMPONENTS

from apistar_ws.components import HANDSHAKE_COMPONENTS, WebSocketComponent
from apistar_ws.exceptions import InvalidMessage, WebSocketDisconnect, close_for, deciding_exception, is_cancelled
from apistar_ws.injection import ASyncInjector, asks_for_websocket, components_over_websocket, describe_handler
from apistar_ws.readahead import Receive
from apistar_ws.router import NamedRoute, Router, WebSocketRouter, split_routes
from apistar_ws.routing import Endpoint, Refusal, bare_handler, conduct, is_marked
from apistar_ws.watch import Watch
from apistar_ws.websocket import Scope, Send, WebSocket, WebSocketState

logger = logging.getLogger('apistar_ws')

State = Dict[str, Any]


class Hooks(NamedTuple):
    """The event hooks that an application has."""

    on_request: Sequence[Callable[..., Any]] = ()
    on_response: Sequence[Callable[..., Any]] = ()
    on_error: Sequence[Callable[..., Any]] = ()


NO_HOOKS = Hooks()
#: Seconds that hooks and components may take before it is worth a look whether the client is still there.
QUICK = 0.001

INITIAL_COMPONENTS: Dict[str, Any] = {
    'scope': ASGIScope,
    'receive': ASGIReceive,
    'send': ASGISend,
    'exc': Exception,
    'app': App,
    'path_params': http.PathParams,
    'route': Route,
    'response': http.Response,
}


class ASyncApp(apistar.ASyncApp):  # type: ignore[misc]
    """API Star's ``ASyncApp`` that serves WebSocket routes beside all others.

    Use it in place of ``apistar.ASyncApp``, with the same arguments; add the routes of
    :func:`apistar_ws.collect_routes` to the list. Served by every ASGI server.

    :param routes: routes, and ``Include`` around them, for HTTP and for WebSockets.
    :param components: API Star's components; a ``WebSocketComponent`` among them carries settings.
    :param event_hooks: API Star's event hooks; ``on_request`` guards WebSocket routes too.
    :param template_dir: and the others, as for API Star's ``ASyncApp``.
    :raises ConfigurationError: for a WebSocket route that cannot work.
    """

    def __init__(
        self,
        routes: Sequence[Any],
        template_dir: Optional[str] = None,
        static_dir: Optional[str] = None,
        packages: Optional[Sequence[str]] = None,
        schema_url: Optional[str] = '/schema/',
        docs_url: Optional[str] = '/docs/',
        static_url: Optional[str] = '/static/',
        components: Optional[Sequence[Component]] = None,
        event_hooks: Optional[Sequence[Any]] = None,
    ) -> None:
        components = with_websocket_component(components)
        needs_websocket = components_over_websocket(components)
        http_routes, named_routes = split_routes(list(routes), lambda route: is_websocket_route(route, needs_websocket))
        self._settings = next(item.settings for item in components if isinstance(item, WebSocketComponent))
        self._handshake_injector = ASyncInjector(
            [*HANDSHAKE_COMPONENTS, *ASGI_COMPONENTS, *VALIDATION_COMPONENTS, *components], INITIAL_COMPONENTS
        )
        self._endpoints = [
            Endpoint(named.route, named.url, self._settings, self._handshake_injector) for named in named_routes
        ]
        self._websockets = WebSocketRouter(
            [(named.url, named.name, end.handler, end) for named, end in zip(named_routes, self._endpoints)]
        )
        self._watches: Dict[asyncio.AbstractEventLoop, Watch] = {}
        super().__init__(
            http_routes, template_dir, static_dir, packages, schema_url, docs_url, static_url, components, event_hooks
        )
        # A subclass may have a router of its own, which knows its names in its own way.
        refuse_clashes(named_routes, getattr(self.router, 'name_lookups', ()))
        on_request = self._hooks().on_request if self._endpoints else ()
        for endpoint in self._endpoints:
            endpoint.injects = endpoint.arguments.prepare(on_request)

    def init_router(self, routes: Sequence[Any]) -> None:
        """Make the router; called by API Star."""
        self.router = Router(routes, self._websockets)

    def init_injector(self, components: Optional[Sequence[Component]] = None) -> None:
        """Make the injector for HTTP; called by API Star."""
        self.injector = ASyncInjector(
            [*ASGI_COMPONENTS, *VALIDATION_COMPONENTS, *(components or [])], INITIAL_COMPONENTS
        )

    def __call__(self, scope: Scope, receive: Any = None, send: Any = None) -> Any:
        """Serve one connection: as an ASGI 3 application, or without ``receive`` and ``send`` as an ASGI 2 one.

        Called by the server; API Star's ``TestClient`` and ``serve`` call it the ASGI 2 way.
        """
        if receive is None and send is None:
            # Not self.__call__, which a subclass may have overridden to take the scope alone.
            return functools.partial(ASyncApp.__call__, self, scope)
        kind = scope.get('type')
        if kind == 'lifespan':
            return serve_lifespan(receive, send)
        # API Star's adapter for WSGI names no type, and leaves the root path out of the path by itself.
        if kind is not None and scope.get('root_path'):
            scope = without_root_path(scope)
        if kind == 'websocket':
            return self._serve_websocket(scope, receive, send)
        return super().__call__(scope)(receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Conduct one connection from its handshake to its end, whatever ends it."""
        try:
            endpoint, path_params = self._websockets.lookup(scope['path'])
        except HTTPException as exc:
            endpoint, path_params = Refusal(exc, self._settings), {}
        ws = endpoint.open(scope, receive, send, path_params)
        watch = self._watch()
        watch.add(ws)
        endpoint.connections += 1
        hooks: Optional[Hooks] = None
        state: Optional[State] = None
        try:
            ws.begin(await receive(), watch.loop)
            endpoint.admit(scope)
            arguments = endpoint.arguments.given(ws)
            if endpoint.injects:
                begun, state, hooks = watch.loop.time(), self._state(ws, endpoint), NO_HOOKS
                hooks = self._hooks()
                arguments.update(await endpoint.arguments.resolve(hooks.on_request, state))
                if watch.loop.time() - begun > QUICK:
                    await ws.require_client()
            await conduct(ws, endpoint.connect, endpoint.handler, (), arguments)
        except BaseException as exc:
            await self._end(ws, exc, state or self._state(ws, endpoint), hooks or self._hooks())
        finally:
            endpoint.connections -= 1
            watch.remove(ws)
            if ws.unfinished:
                await ws.finish()

    def _watch(self) -> Watch:
        """Return the watch of the running event loop."""
        loop = asyncio.get_running_loop()
        try:
            return self._watches[loop]
        except KeyError:
            self._watches = {known: watch for known, watch in self._watches.items() if not known.is_closed()}
            return self._watches.setdefault(loop, Watch(loop))

    def _hooks(self) -> Hooks:
        """Return the event hooks for one connection; those given as classes are made anew, as API Star does."""
        return Hooks(*self.get_event_hooks()) if self.event_hooks else NO_HOOKS

    def _state(self, ws: WebSocket, endpoint: Endpoint) -> State:
        """Return what the injector starts from, as API Star has it, and the channel."""
        return {
            'scope': {**ws.scope, 'method': 'GET'},
            'receive': ws.server_receive,
            'send': ws.server_send,
            'exc': None,
            'app': self,
            'path_params': ws.path_params,
            'route': endpoint.route,
            'websocket': ws,
        }

    async def _end(self, ws: WebSocket, exc: BaseException, state: State, hooks: Hooks) -> None:
        """Tell the client, the log and the hooks of what ended the handler, or came before it."""
        exc = deciding_exception(exc)
        if ws.state is WebSocketState.OPEN:
            await ws.close(*close_for(exc))
        if isinstance(exc, asyncio.CancelledError) and ws.was_interrupted(asyncio.current_task()):
            return
        ws.release()
        # A task that the handler awaits may have been cancelled, and not the handler.
        if not isinstance(exc, Exception) and (is_cancelled() or not isinstance(exc, asyncio.CancelledError)):
            raise exc
        if ws.state is WebSocketState.CONNECTING:
            await self._deny(exc, state, hooks)
        elif not is_expected(exc, ws):
            await self._report(exc, state, hooks)

    async def _deny(self, exc: BaseException, state: State, hooks: Hooks) -> None:
        """Answer the handshake as API Star answers a request whose handler raised ``exc``."""
        injector = self._handshake_injector
        state['exc'] = exc
        try:
            await injector.run_async([self.exception_handler, *hooks.on_response, self._finalize_denial], state)
        except WebSocketDisconnect:
            logger.debug('%r: the client left before the denial.', state['websocket'])
        except Exception as inner:
            await self._report(inner, state, hooks)
            await injector.run_async([self.error_handler, self._finalize_denial], state)

    async def _finalize_denial(self, response: http.Response, ws: WebSocket) -> None:
        await ws.deny(response.status_code, list(response.headers), response.content)

    async def _report(self, exc: BaseException, state: State, hooks: Hooks) -> None:
        """Log an exception that nobody expected, and run the ``on_error`` hooks."""
        logger.error('%r: the handler failed.', state['websocket'], exc_info=exc)
        state['exc'] = exc
        try:
            await self._handshake_injector.run_async(hooks.on_error, state)
        except Exception:
            logger.exception('%r: an on_error hook failed.', state['websocket'])
        if state['scope'].get('raise_exceptions'):
            # Not of the ASGI specification: API Star's test client says so, and ours.
            raise exc


def with_websocket_component(components: Optional[Sequence[Component]]) -> List[Component]:
    """Return ``components`` with a ``WebSocketComponent`` among them.

    :raises ConfigurationError: for what is no component, such as a class that was not called.
    """
    given = list(components or [])
    for item in given:
        if not isinstance(item, Component):
            raise ConfigurationError('components holds %r, which is no instance of Component.' % (item,))
    if not any(isinstance(item, WebSocketComponent) for item in given):
        given.append(WebSocketComponent())
    return given


def is_websocket_route(route: Route, needs_websocket: Sequence[Component]) -> bool:
    """Tell whether ``route`` is for WebSockets: its handler is decorated, or asks for the channel.

    A plain function serves HTTP, whatever its components ask for.
    """
    if is_marked(route.handler):
        return True
    components = needs_websocket if inspect.iscoroutinefunction(route.handler) else ()
    return route.method == 'GET' and asks_for_websocket(route.handler, components)


def refuse_clashes(routes: Sequence[NamedRoute], http_names: Container[str]) -> None:
    """Refuse a URL or a name that a WebSocket route shares with another route.

    Several URLs of one handler, from stacked decorators, may share a name, and a path may also serve HTTP.

    :raises ConfigurationError: naming the handler.
    """
    urls: Set[str] = set()
    names: Dict[str, Any] = {}
    for url, name, route in routes:
        handler = bare_handler(route.handler)
        if name in http_names or names.setdefault(name, handler) != handler:
            raise ConfigurationError(
                'Two routes are named %r, one of them for the handler %s: give one another name, '
                "websocket_route(url, name='...')." % (name, describe_handler(handler))
            )
        if url in urls:
            raise ConfigurationError(
                'Two WebSocket routes have the URL %r, the second for the handler %s, which would never run.'
                % (url, describe_handler(handler))
            )
        urls.add(url)


def without_root_path(scope: Scope) -> Scope:
    """Return ``scope`` with the root path taken off its path, where the routes of API Star begin.

    Servers of today put it on (ASGI specification, HTTP and WebSocket, 2.4).
    """
    root_path = scope['root_path'].rstrip('/')
    if not (scope['path'] + '/').startswith(root_path + '/'):
        return scope
    return {**scope, 'path': scope['path'][len(root_path) :] or '/'}


async def serve_lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start-up and shutdown (ASGI lifespan protocol)."""
    while True:
        message = await receive()
        await send({'type': message['type'] + '.complete'})
        if message['type'] == 'lifespan.shutdown':
            return


def is_expected(exc: BaseException, ws: WebSocket) -> bool:
    """Tell whether ``exc`` is a way for a handler to end, which the client has been told of, and no error."""
    if isinstance(exc, WebSocketDisconnect):
        return ws.disconnected
    return isinstance(exc, (HTTPException, InvalidMessage))


if sys.version_info >= (3, 12):  # pragma: no cover
    inspect.markcoroutinefunction(ASyncApp.__call__)
else:  # pragma: no cover
    # What asyncio.iscoroutinefunction looks at there: uvicorn asks it to tell ASGI 3 from ASGI 2.
    ASyncApp.__call__._is_coroutine = asyncio.coroutines._is_coroutine
