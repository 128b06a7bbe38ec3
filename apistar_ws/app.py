"""API Star's ``ASyncApp`` with WebSockets: one application for HTTP, handshakes and the lifespan."""

import asyncio
import contextlib
import functools
import inspect
import logging
import posixpath
import sys
import warnings
from typing import Any, Callable, Container, Dict, List, Optional, Sequence, Tuple

import apistar
from apistar import http
from apistar.exceptions import ConfigurationError, HTTPException
from apistar.server.app import App
from apistar.server.asgi import ASGI_COMPONENTS, ASGIReceive, ASGIScope, ASGISend
from apistar.server.components import Component
from apistar.server.core import Route
from apistar.server.validation import VALIDATION_COMPONENTS

from apistar_ws.connection.handshake import printable, with_root_path
from apistar_ws.connection.websocket import WebSocket
from apistar_ws.exceptions import ServiceUnavailable, WebSocketDisconnect
from apistar_ws.injection.arguments import asks_for_websocket, components_needing_websocket
from apistar_ws.injection.components import HANDSHAKE_COMPONENTS, REQUEST_COMPONENTS, WebSocketComponent
from apistar_ws.injection.injector import ASyncInjector, require_hook, require_known_hooks
from apistar_ws.injection.resources import Resource, close_in_turn, close_rest, opened_in
from apistar_ws.injection.signatures import describe_handler
from apistar_ws.routing.collecting import HandshakeMethod, WebSocketRoute
from apistar_ws.routing.collecting import Route as OurRoute
from apistar_ws.routing.decorators import bare_handler, is_decorated
from apistar_ws.routing.router import Found, NamedRoute, Router, WebSocketRouter, split_routes, url_pattern
from apistar_ws.serving.endpoint import Endpoint
from apistar_ws.serving.lifecycle import Lifecycle
from apistar_ws.serving.lifespan import Draining, Startup
from apistar_ws.types import Receive, Scope, Send

logger = logging.getLogger('apistar_ws')

Methods = List[Callable[..., Any]]

#: The default of a URL for WebSockets: beside API Star's own.
DEFAULT_URL = 'default'

#: The value of the injector where nothing was raised.
NO_EXCEPTION: Any = None
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
    :param websocket_schema_url: the URL of the AsyncAPI document of the WebSocket routes, None for none. Default:
        beside ``schema_url``, ``/schema/websockets/``.
    :param websocket_docs_url: the URL of the page to try them, None for none. Default: beside ``docs_url``,
        ``/docs/websockets/``.
    :param websocket_schema_limits: whether the document, which is public, has the limits of the routes.
    :param websocket_docs_explain: whether the page may ask why a handshake was denied. The application then runs the
        hooks and components of a handshake for everyone who may POST to the page: not for a public page.
    :param template_dir: this and the other arguments are those of API Star's ``ASyncApp``.
    :raises ConfigurationError: for a WebSocket route that cannot work.
    """

    # API Star asks for the hooks before the components are known.
    _has_resources = False

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
        websocket_schema_url: Optional[str] = DEFAULT_URL,
        websocket_docs_url: Optional[str] = DEFAULT_URL,
        websocket_schema_limits: bool = False,
        websocket_docs_explain: bool = False,
    ) -> None:
        components = list(components or [])
        require_components(components)
        needs_websocket = components_needing_websocket([WebSocketComponent(), *components])
        http_routes, named_routes = split_routes(list(routes), lambda route: is_websocket_route(route, needs_websocket))
        self._doc_urls = {
            'schema_url': neighbour(schema_url) if websocket_schema_url == DEFAULT_URL else websocket_schema_url,
            'docs_url': neighbour(docs_url) if websocket_docs_url == DEFAULT_URL else websocket_docs_url,
            'http_schema_url': schema_url,
            'http_docs_url': docs_url,
        }
        self._doc_options = websocket_schema_limits, websocket_docs_explain
        if named_routes:
            http_routes += self.websocket_docs.routes()
        super().__init__(
            http_routes, template_dir, static_dir, packages, schema_url, docs_url, static_url, components, event_hooks
        )
        self._has_resources = any(isinstance(item, Resource) for item in self.injector.components)
        self.websocket_lifecycle = self._make_lifecycle(named_routes)
        self._serve_websocket = self.websocket_lifecycle.serve
        self._startup = Startup(self, self.injector.components, self.websocket_lifecycle.watches.note_lifespan)
        self._draining = Draining(self.websocket_lifecycle.endpoints)
        self._check_hooks()

    def _make_lifecycle(self, named_routes: List[NamedRoute]) -> Lifecycle:
        """Return the lifecycle for these routes."""
        # A subclass may have added some.
        components = with_websocket_component(self.injector.components)
        injector = ASyncInjector([*HANDSHAKE_COMPONENTS, *components], self.injector.initial, self._aliases())
        settings = next(item.settings for item in components if isinstance(item, WebSocketComponent))
        endpoints = [Endpoint(named.route, named.url, settings, injector) for named in named_routes]
        for named, endpoint in zip(named_routes, endpoints):
            endpoint.name = named.name
        router = WebSocketRouter(
            [(named.url, named.name, endpoint.handler, endpoint) for named, endpoint in zip(named_routes, endpoints)]
        )
        if isinstance(self.router, Router):
            self.router.websockets = router
        # A subclass may have its own router.
        refuse_clashes(named_routes, endpoints, getattr(self.router, 'name_lookups', ()))
        return Lifecycle(self, router, injector, settings)

    def _check_hooks(self) -> None:
        """Refuse hooks that would never run, and arguments of hooks and handlers that no component supplies."""
        for hook in self.event_hooks or ():
            require_known_hooks(hook)
        on_request, on_response, on_error = self.get_event_hooks()
        for hook in (*on_request, *on_response, *on_error):
            require_hook(hook)
        for endpoint in self.websocket_lifecycle.endpoints:
            endpoint.arguments.prepare(on_request)
        self._startup.check()

    def init_router(self, routes: Sequence[Any]) -> None:
        """Make the router; called by API Star."""
        self.router = Router(routes)

    def init_injector(self, components: Optional[Sequence[Component]] = None) -> None:
        """Make the injector for HTTP; called by API Star."""
        self.injector = ASyncInjector(
            [*REQUEST_COMPONENTS, *ASGI_COMPONENTS, *VALIDATION_COMPONENTS, *with_websocket_component(components)],
            INITIAL_COMPONENTS,
            self._aliases(),
        )

    def _aliases(self) -> Dict[Any, str]:
        """Return further annotations for the application and the route: their own classes."""
        apps = [cls for cls in type(self).__mro__ if issubclass(cls, App)]
        return {**dict.fromkeys(apps, 'app'), OurRoute: 'route', WebSocketRoute: 'route'}

    def get_event_hooks(self) -> Tuple[Methods, Methods, Methods]:
        """Return the hooks before a handler, after it and at an error, for one request or connection.

        Classes are instantiated each time. Called by API Star.
        """
        hooks = [hook() if isinstance(hook, type) else hook for hook in self.event_hooks or ()]
        last_first = hooks[::-1]
        on_response = methods_of(last_first, 'on_response')
        if on_response and self._has_resources:
            on_response.append(RunOnce(on_response).clear)
        return methods_of(hooks, 'on_request'), on_response, methods_of(last_first, 'on_error')

    def __call__(self, scope: Scope, receive: Any = None, send: Any = None) -> Any:
        """Serve one connection: as an ASGI 3 application, or without ``receive`` and ``send`` as an ASGI 2 one.

        Called by the server; API Star's ``TestClient`` and ``serve`` call it the ASGI 2 way.
        """
        if receive is None and send is None:
            # Not self.__call__, which a subclass may have overridden to take the scope alone.
            return functools.partial(ASyncApp.__call__, self, scope)
        kind = scope.get('type')
        if kind == 'lifespan':
            return self._startup.serve_lifespan(scope, receive, send)
        if not self._startup.is_done:
            return self._serve_first(scope, receive, send)
        # API Star's adapter for WSGI has no type, and has removed the root path itself.
        if kind is not None and scope.get('root_path'):
            scope = without_root_path(scope)
        if kind == 'websocket':
            return self._serve_websocket(scope, receive, send)
        if self._has_resources:
            return self._serve_http(dict(scope), receive, send)
        return super().__call__(scope)(receive, send)

    @functools.cached_property
    def websocket_docs(self) -> Any:
        """The documentation of the WebSocket routes; its modules are imported by applications that have some."""
        from apistar_ws.asyncapi.routes import Docs, DocURLs

        return Docs(self, DocURLs(**self._doc_urls), *self._doc_options)

    @property
    def asyncapi(self) -> Dict[str, Any]:
        """The AsyncAPI document of the WebSocket routes; see ``websocket_schema_url``."""
        document: Dict[str, Any] = self.websocket_docs.document
        return document

    async def drain(self, seconds: float) -> None:
        """Close all connections before this process ends, and accept none from now on.

        Await it when the process is about to end, before the server is stopped. Handshakes are denied with 503 and
        ``Retry-After``. Open connections are closed with 1012, spread evenly over the time, so that the clients do not
        all reconnect at once. A second call waits for the first.

        :param seconds: the time over which to spread the closes. It returns when no connection is left, at the latest
            five seconds after the last close: a handler that is still running is left to the server.
        :raises ValueError: for a number below 0, or an infinite one.
        """
        await self._draining.drain(seconds)

    async def _serve_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the application before its first request, on a server without a lifespan."""
        if self._startup.is_over:
            return await self._refuse(ServiceUnavailable('The application has stopped'), scope, receive, send)
        try:
            await self._startup.ensure()
        except Exception:
            await self._refuse(ServiceUnavailable('The application has not started'), scope, receive, send)
        else:
            await ASyncApp.__call__(self, scope, receive, send)

    async def _refuse(self, exc: HTTPException, scope: Scope, receive: Receive, send: Send) -> None:
        response = http.JSONResponse(exc.detail, exc.status_code, exc.get_headers())
        if scope.get('type') != 'websocket':
            await super().finalize_asgi(response, send, scope)
        elif (await receive())['type'] == 'websocket.connect':
            ws = WebSocket(scope, receive, send)
            with contextlib.suppress(WebSocketDisconnect):
                await ws.deny(response.status_code, list(response.headers), response.content)

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, and close its resources whatever ends it."""
        try:
            await super().__call__(scope)(receive, send)
        except BaseException as exc:
            await close_rest(opened_in(scope), exc)
            raise
        await close_rest(opened_in(scope), None)

    async def finalize_asgi(
        self, response: http.Response, send: ASGISend, scope: ASGIScope, exc: Exception = NO_EXCEPTION
    ) -> None:
        """Close the resources of a request, and send its response; called by API Star.

        API Star does not log the traceback of a handler that failed: it is logged here, unless it is raised.
        """
        if isinstance(exc, Found) and response.headers.get('Location') == exc.location:
            response.headers['Location'] = with_root_path(scope, exc.location)
        opened = opened_in(scope)
        if response.exc_info is not None:
            # It has failed already: later failures are only logged.
            await close_rest(opened, exc)
        try:
            await close_in_turn(opened, exc, ignore)
        except BaseException as failure:
            await close_rest(opened, failure)
            raise
        if response.exc_info is not None and not (self.debug or scope.get('raise_exceptions')):
            where = '%s %s' % (scope['method'], printable(scope['path']))
            raised = response.exc_info
            logger.error('%s: the request failed.', where, exc_info=(*raised[:2], without_reraise(raised[2])))
        await super().finalize_asgi(response, send, scope)

    def serve(self, host: str, port: int, debug: bool = False, **options: Any) -> None:
        """Serve HTTP with werkzeug's development server, as API Star does; WebSockets need an ASGI server.

        :param host: the address to listen on.
        :param port: the port to listen on.
        :param debug: whether to reload, and to show werkzeug's debugger.
        :param options: those of ``werkzeug.run_simple``.
        """
        if self.websocket_lifecycle.endpoints:
            print('WebSockets are not served here: they need an ASGI server, such as uvicorn.', file=sys.stderr)
        provide_event_loop()
        super().serve(host, port, debug, **options)


class RunOnce:
    """The last of the ``on_response`` hooks of one request: if a commit fails after them, they do not run again.

    :param hooks: the list that API Star runs, also for what has failed after them.
    """

    def __init__(self, hooks: Methods) -> None:
        self._hooks = hooks

    def clear(self) -> None:
        """Remove the remaining hooks."""
        self._hooks.clear()


def ignore(failure: BaseException, func: Any) -> None:
    """Do nothing: the failure is raised."""


def neighbour(url: Optional[str]) -> Optional[str]:
    """Return the URL beside one of API Star's, for WebSockets: ``/schema/websockets/``, ``/api.websockets.json``."""
    if url is None:
        return None
    stem, extension = posixpath.splitext(url)
    if extension:
        return stem + '.websockets' + extension
    return url.rstrip('/') + '/websockets' + ('/' if url.endswith('/') else '')


def without_reraise(traceback: Any) -> Any:
    """Return a traceback without the part before the last entry of its outermost frame, which raised it again."""
    last = current = traceback
    while current is not None:
        last = current if current.tb_frame is traceback.tb_frame else last
        current = current.tb_next
    return last


def methods_of(hooks: Sequence[Any], name: str) -> Methods:
    """Return the method ``name`` of each hook that has it."""
    return [method for method in [getattr(hook, name, None) for hook in hooks] if method is not None]


def require_components(given: Sequence[Any]) -> None:
    """Refuse values that are not components, such as a class that was not called.

    :raises ConfigurationError: naming it.
    """
    for item in given:
        if not isinstance(item, Component):
            advice = ': write %s()' % item.__name__ if isinstance(item, type) else ''
            raise ConfigurationError('components holds %r, which is no instance of Component%s.' % (item, advice))
    supplied = [supplied_once(item) for item in given if hasattr(item, 'given_once')]
    for once in supplied:
        if supplied.count(once) > 1:
            raise ConfigurationError('components holds two of %s, of which only the first would count.' % once[0])


def supplied_once(component: Any) -> Tuple[str, Any]:
    """Return the name of a component that may be given once, and the type that it supplies."""
    return component.given_once, inspect.signature(component.resolve).return_annotation


def with_websocket_component(given: Optional[Sequence[Component]]) -> List[Component]:
    """Return components with a ``WebSocketComponent`` among them."""
    components = list(given or [])
    if not any(isinstance(item, WebSocketComponent) for item in components):
        components.append(WebSocketComponent())
    return components


def is_websocket_route(route: Route, needs_websocket: Sequence[Component]) -> bool:
    """Return whether ``route`` is for WebSockets: its handler is decorated, or asks for a WebSocket.

    A plain function serves HTTP, whatever its components ask for.
    """
    if is_decorated(route.handler) or isinstance(route, WebSocketRoute):
        return True
    components = needs_websocket if inspect.iscoroutinefunction(route.handler) else ()
    if route.method == 'GET' and asks_for_websocket(route.handler, components):
        return True
    if isinstance(route.method, HandshakeMethod):
        raise ConfigurationError(
            'The route %r was made from a WebSocket route, but its handler %s is not a WebSocket handler: pass the '
            'decorated handler on unchanged.' % (route.url, describe_handler(route.handler))
        )
    return False


def refuse_clashes(routes: Sequence[NamedRoute], endpoints: Sequence[Endpoint], http_names: Container[str]) -> None:
    """Refuse a URL or a name that a WebSocket route shares with another route.

    Several URLs of one handler, from stacked decorators, may share a name, and a path may also serve HTTP.

    :raises ConfigurationError: naming the handler.
    """
    urls: Dict[str, str] = {}
    names: Dict[str, Any] = {}
    for (url, name, route), endpoint in zip(routes, endpoints):
        handler = bare_handler(route.handler)
        if name in http_names or names.setdefault(name, handler) != handler:
            raise ConfigurationError(
                'Two routes are named %r, one of them for the handler %s: give one another name, '
                "websocket_route(url, name='...')." % (name, describe_handler(handler))
            )
        pattern = url_pattern(endpoint.url, endpoint.handler)
        if pattern in urls:
            raise ConfigurationError(
                'The WebSocket routes %r and %r match the same paths, and the handler %s of the second would never run.'
                % (urls[pattern], url, describe_handler(handler))
            )
        urls[pattern] = url


def without_root_path(scope: Scope) -> Scope:
    """Return ``scope`` with the root path removed from its path, since API Star's routes do not have it.

    Some servers put it there (ASGI specification, HTTP and WebSocket, 2.4), uvicorn literally: with
    ``--root-path /api/`` the path of ``/x`` is ``/api//x``.
    """
    path, root_path = scope['path'], scope['root_path']
    if not (root_path.endswith('/') and path.startswith(root_path)):
        root_path = root_path.rstrip('/')
        if not (path + '/').startswith(root_path + '/'):
            return scope
    rest = path[len(root_path) :]
    return {**scope, 'path': rest if rest.startswith('/') else '/' + rest}


def provide_event_loop() -> None:
    """Make sure that there is a current event loop, which API Star asks for and Python 3.14 does not create."""
    with warnings.catch_warnings():
        # Python 3.12 and 3.13 create one, with a warning.
        warnings.simplefilter('ignore', DeprecationWarning)
        try:
            asyncio.get_event_loop()
        except RuntimeError:
            asyncio.set_event_loop(asyncio.new_event_loop())


if sys.version_info >= (3, 12):  # pragma: no cover
    inspect.markcoroutinefunction(ASyncApp.__call__)
else:  # pragma: no cover
    # asyncio.iscoroutinefunction reads it there, by which uvicorn tells ASGI 3 from ASGI 2.
    ASyncApp.__call__._is_coroutine = asyncio.coroutines._is_coroutine
