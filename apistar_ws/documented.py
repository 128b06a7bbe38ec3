"""Where an application describes its WebSocket routes; what does it is imported when somebody asks."""

import logging
import posixpath
from typing import Any, Callable, List, NamedTuple, Optional, Sequence

from apistar import App, Route, http
from apistar.exceptions import ConfigurationError, NotFound
from apistar.server.asgi import ASGIScope
from apistar.server.router import Router

logger = logging.getLogger('apistar_ws')

#: Stands for a URL beside API Star's own.
BESIDE = 'beside'
#: What follows the URL of the page for what belongs to it.
ASSETS = ('console.js', 'console.css')


class Places(NamedTuple):
    """Where the document and the page are; None for what is not there."""

    schema_url: Optional[str] = None
    docs_url: Optional[str] = None
    #: Whether the document says the limits of the routes.
    has_limits: bool = False
    #: The page for HTTP, if there is one.
    http_docs_url: Optional[str] = None
    #: Whether the page may ask how a handshake would be answered.
    explains: bool = False


def neighbour(url: Optional[str]) -> Optional[str]:
    """Return the URL beside one of API Star's, for WebSockets: ``/schema/websockets/``, ``/api.websockets.json``."""
    if url is None:
        return None
    stem, extension = posixpath.splitext(url)
    if extension:
        return stem + '.websockets' + extension
    return url.rstrip('/') + '/websockets' + ('/' if url.endswith('/') else '')


def asset_url(docs_url: str, name: str) -> str:
    """Return where what belongs to the page is."""
    return '%s/%s' % (docs_url.rstrip('/'), name)


def pages(places: Places) -> List[Route]:
    """Return the routes that serve the document and the page."""
    routes: List[Route] = []
    if places.schema_url is not None:
        routes.append(page(places.schema_url, 'GET', serve_document, 'schema'))
    if places.docs_url is not None:
        routes.append(page(places.docs_url, 'GET', serve_page, 'docs'))
        if places.explains:
            routes.append(page(places.docs_url, 'POST', explain_denial, 'denial'))
        routes += [page(asset_url(places.docs_url, name), 'GET', ASSET_HANDLERS[name], name) for name in ASSETS]
    return routes


def page(url: str, method: str, handler: Any, name: str) -> Route:
    """Return one of them, under a name that nobody else takes."""
    return Route(url, method, handler, name='apistar_ws.' + name, documented=False)


def yielding(places: Places, routes: Sequence[Any], taken: Sequence[Optional[str]]) -> Places:
    """Return the places without those that one of the user's own routes would serve.

    :param taken: where API Star's own document and page are.
    :raises ConfigurationError: for a place that is one of these, or that both would have.
    """
    refuse_shared(places, taken)
    router = Router(routes)
    schema_url, docs_url = (url_if_free(router, url) for url in (places.schema_url, places.docs_url))
    for name in ASSETS:
        # A page without them is none.
        docs_url = docs_url and url_if_free(router, asset_url(docs_url, name)) and docs_url
    return places._replace(schema_url=schema_url, docs_url=docs_url)


def refuse_shared(places: Places, taken: Sequence[Optional[str]]) -> None:
    """Refuse a place where something else is served: one of the two would be there for nobody."""
    urls = [url for url in (places.schema_url, places.docs_url) if url is not None]
    for url in urls:
        if url in taken or urls.count(url) > 1:
            raise ConfigurationError(
                '%r is the place of two descriptions: give the one of the WebSockets another, by websocket_schema_url= '
                'or websocket_docs_url=.' % url
            )


def url_if_free(router: Router, url: Optional[str]) -> Optional[str]:
    """Return ``url`` if no route serves it, and else None, which is said in the log.

    :raises ConfigurationError: for what is no path.
    """
    if url is None:
        return None
    if not url.startswith('/') or '{' in url:
        raise ConfigurationError('%r has to be a path, such as /docs/websockets/, without parameters.' % url)
    try:
        router.lookup(url, 'GET')
    except NotFound:
        return url
    except Exception:
        """Another method is served there, or a redirect leads away."""
    logger.warning(
        'A route of the application serves %s, so the description of its WebSockets is not there: give it another '
        'place by websocket_schema_url= or websocket_docs_url=, or None to have none.', url,
    )  # fmt: skip
    return None


class Describer:
    """Knows where what describes comes from: the package says so, and nothing here does."""

    load: Callable[[], Any]


def described() -> Any:
    """Return what describes, imported when somebody asks for the first time."""
    return Describer.load()


def serve_document(app: App) -> http.Response:
    """Serve the AsyncAPI document."""
    response: http.Response = described().document_response(app)
    return response


def serve_page(app: App) -> http.Response:
    """Serve the page to try the routes."""
    response: http.Response = described().page_response(app)
    return response


def serve_script() -> http.Response:
    """Serve the script of the page."""
    response: http.Response = described().asset_response('console.js')
    return response


def serve_style() -> http.Response:
    """Serve the style of the page."""
    response: http.Response = described().asset_response('console.css')
    return response


async def explain_denial(app: App, scope: ASGIScope, body: http.Body) -> http.Response:
    """Say what a handshake is answered, which a browser does not show."""
    response: http.Response = await described().denial_response(app, scope, body)
    return response


ASSET_HANDLERS = {'console.js': serve_script, 'console.css': serve_style}
