"""Where an application serves the AsyncAPI document of its WebSocket routes, and the page to try them."""

import functools
import json
import logging
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from apistar import App, Route, http
from apistar.exceptions import ConfigurationError, NotFound
from apistar.server.asgi import ASGIScope
from apistar.server.router import Router

from apistar_ws.asyncapi.document import MEDIA_TYPE, Description, describe, document
from apistar_ws.asyncapi.jsonschema import Schemas
from apistar_ws.asyncapi.page import ASSETS, asset_response, page_response, render
from apistar_ws.asyncapi.replay import denial_response
from apistar_ws.asyncapi.urls import asset_url, relative

logger = logging.getLogger('apistar_ws')


class DocURLs(NamedTuple):
    """The URLs of the document and the page; None for what is not served."""

    schema_url: Optional[str] = None
    docs_url: Optional[str] = None
    #: API Star's own.
    http_schema_url: Optional[str] = None
    http_docs_url: Optional[str] = None


class Docs:
    """The document and the page of one application, made when they are first asked for.

    :param app: the application.
    :param urls: where they are served.
    :param has_limits: whether the document has the limits of the routes.
    :param explains: whether the page may ask how a handshake would be answered.
    """

    def __init__(self, app: Any, urls: DocURLs, has_limits: bool, explains: bool) -> None:
        self._app = app
        self.urls = urls
        self._has_limits = has_limits
        self._explains = explains

    def routes(self, others: Sequence[Any]) -> List[Route]:
        """Return the routes that serve them; a URL that one of the ``others`` serves is left to it.

        :raises ConfigurationError: for a URL that cannot be served.
        """
        self.urls = without_taken(self.urls, others)
        schema_url, docs_url = self.urls.schema_url, self.urls.docs_url
        routes: List[Route] = []
        if schema_url is not None:
            routes.append(doc_route(schema_url, 'GET', serve_document, 'schema'))
        if docs_url is not None:
            routes.append(doc_route(docs_url, 'GET', serve_page, 'docs'))
            if self._explains:
                routes.append(doc_route(docs_url, 'POST', explain_denial, 'denial'))
            routes += [doc_route(asset_url(docs_url, name), 'GET', ASSET_HANDLERS[name], name) for name in ASSETS]
        return routes

    @functools.cached_property
    def document(self) -> Dict[str, Any]:
        """The AsyncAPI document."""
        described, schemas = self._descriptions
        found = {'page': self.urls.docs_url, 'http': self.urls.http_docs_url}
        here = self.urls.schema_url or '/'
        links = {name: relative(here, url) for name, url in found.items() if url is not None}
        return document(described, schemas, self._has_limits, links)

    @functools.cached_property
    def page(self) -> str:
        """The HTML of the page."""
        described, schemas = self._descriptions
        here = self.urls.docs_url or '/'
        found = {'WebSocket schema': self.urls.schema_url, 'HTTP documentation': self.urls.http_docs_url}
        links = [(text, relative(here, url)) for text, url in found.items() if url is not None]
        return render(here, described, schemas, links, self._explains, self._app.static_url)

    @functools.cached_property
    def _descriptions(self) -> Tuple[List[Description], Schemas]:
        on_request = self._app.get_event_hooks()[0]
        return describe(self._app.websocket_lifecycle.endpoints, self._app.injector.components, on_request)


def doc_route(url: str, method: str, handler: Any, name: str) -> Route:
    """Return a route of the documentation, under a name that no other route has."""
    return Route(url, method, handler, name='apistar_ws.' + name, documented=False)


def without_taken(urls: DocURLs, routes: Sequence[Any]) -> DocURLs:
    """Return the URLs without those that one of the user's own routes serves.

    :raises ConfigurationError: for a URL of API Star's own documentation, or of both document and page.
    """
    refuse_shared(urls)
    router = Router(routes)
    docs_url = url_if_free(router, urls.docs_url)
    for name in ASSETS:
        # The page does not work without them.
        docs_url = docs_url and url_if_free(router, asset_url(docs_url, name)) and docs_url
    # Not NamedTuple._replace, whose name says that it is private.
    return DocURLs(url_if_free(router, urls.schema_url), docs_url, urls.http_schema_url, urls.http_docs_url)


def refuse_shared(urls: DocURLs) -> None:
    """Refuse a URL where another page is served: one of the two could never be reached."""
    own = [url for url in (urls.schema_url, urls.docs_url) if url is not None]
    for url in own:
        if url in (urls.http_schema_url, urls.http_docs_url) or own.count(url) > 1:
            raise ConfigurationError(
                '%r is already the URL of another page: give the documentation of the WebSockets another, by '
                'websocket_schema_url= or websocket_docs_url=.' % url
            )


def url_if_free(router: Router, url: Optional[str]) -> Optional[str]:
    """Return ``url`` if no route serves it; otherwise log that, and return None.

    :raises ConfigurationError: for a URL that is not a path.
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
        pass  # Another method is served there, or a redirect leads away.
    logger.warning(
        'A route of the application serves %s, so the documentation of its WebSockets is not served there: give it '
        'another URL by websocket_schema_url= or websocket_docs_url=, or None for none.', url,
    )  # fmt: skip
    return None


def serve_document(app: App) -> http.Response:
    """Serve the AsyncAPI document."""
    content = json.dumps(app.asyncapi, ensure_ascii=False, indent=1).encode()
    return http.Response(content, headers={'Content-Type': MEDIA_TYPE})


def serve_page(app: App) -> http.Response:
    """Serve the page to try the routes."""
    return page_response(app.websocket_docs.page)


def serve_script() -> http.Response:
    """Serve the script of the page."""
    return asset_response('console.js')


def serve_style() -> http.Response:
    """Serve the style of the page."""
    return asset_response('console.css')


async def explain_denial(app: App, scope: ASGIScope, body: http.Body) -> http.Response:
    """Serve the answer that a handshake would get, which a browser does not show."""
    return await denial_response(app.websocket_lifecycle, scope, body)


ASSET_HANDLERS = {'console.js': serve_script, 'console.css': serve_style}
