"""The HTTP routes that serve the AsyncAPI document and the page to try WebSocket routes."""

import functools
import json
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from apistar import App, Route, http
from apistar.exceptions import ConfigurationError
from apistar.server.asgi import ASGIScope

from apistar_ws.asyncapi.document import MEDIA_TYPE, Description, describe, document
from apistar_ws.asyncapi.jsonschema import Schemas
from apistar_ws.asyncapi.page import ASSETS, asset_response, asset_url, page_response, relative, render
from apistar_ws.asyncapi.replay import denial_response


class DocURLs(NamedTuple):
    """The URLs of the document and the page, None if they are not served."""

    schema_url: Optional[str] = None
    docs_url: Optional[str] = None
    #: The URLs of API Star's documentation.
    http_schema_url: Optional[str] = None
    http_docs_url: Optional[str] = None


class Docs:
    """The document and the page of one application, made on the first request.

    :param app: the application.
    :param urls: their URLs.
    :param has_limits: whether the document includes the limits of the routes.
    :param explains: whether the page can show the response to a denied handshake.
    """

    def __init__(self, app: Any, urls: DocURLs, has_limits: bool, explains: bool) -> None:
        self._app = app
        self.urls = urls
        self._has_limits = has_limits
        self._explains = explains

    def routes(self) -> List[Route]:
        """Return the routes that serve them.

        :raises ConfigurationError: for a URL that cannot be served.
        """
        _check_urls(self.urls)
        schema_url, docs_url = self.urls.schema_url, self.urls.docs_url
        routes: List[Route] = []
        if schema_url is not None:
            routes.append(_doc_route(schema_url, 'GET', _serve_document, 'schema'))
        if docs_url is not None:
            routes.append(_doc_route(docs_url, 'GET', _serve_page, 'docs'))
            if self._explains:
                routes.append(_doc_route(docs_url, 'POST', _explain_denial, 'denial'))
            routes += [_doc_route(asset_url(docs_url, name), 'GET', _asset_handler(name), name) for name in ASSETS]
        return routes

    @functools.cached_property
    def document(self) -> Dict[str, Any]:
        """The AsyncAPI document."""
        described, schemas = self._descriptions
        pages = {'page': self.urls.docs_url, 'http': self.urls.http_docs_url}
        here = self.urls.schema_url or '/'
        links = {name: relative(here, url) for name, url in pages.items() if url is not None}
        return document(described, schemas, self._has_limits, links)

    @functools.cached_property
    def page(self) -> str:
        """The HTML of the page."""
        described, schemas = self._descriptions
        here = self.urls.docs_url or '/'
        pages = {'WebSocket schema': self.urls.schema_url, 'HTTP documentation': self.urls.http_docs_url}
        links = [(text, relative(here, url)) for text, url in pages.items() if url is not None]
        return render(here, described, schemas, links, self._explains, self._app.static_url)

    @functools.cached_property
    def _descriptions(self) -> Tuple[List[Description], Schemas]:
        on_request = self._app.get_event_hooks()[0]
        return describe(self._app.websocket_lifecycle.endpoints, self._app.injector.components, on_request)


def _doc_route(url: str, method: str, handler: Any, name: str) -> Route:
    """Return a route of the documentation, with a name that no other route has."""
    return Route(url, method, handler, name='apistar_ws.' + name, documented=False)


def _check_urls(urls: DocURLs) -> None:
    """Refuse URLs that are not paths, and URLs of other pages, of which one could never be reached.

    :raises ConfigurationError: for such a URL.
    """
    own = [url for url in (urls.schema_url, urls.docs_url) if url is not None]
    for url in own:
        if not url.startswith('/') or '{' in url:
            raise ConfigurationError('%r has to be a path, such as /docs/websockets/, without parameters.' % url)
        if url in (urls.http_schema_url, urls.http_docs_url) or own.count(url) > 1:
            raise ConfigurationError(
                '%r is already the URL of another page: give the documentation of the WebSockets another, by '
                'websocket_schema_url= or websocket_docs_url=.' % url
            )


def _serve_document(app: App) -> http.Response:
    content = json.dumps(app.asyncapi, ensure_ascii=False, indent=1).encode()
    return http.Response(content, headers={'Content-Type': MEDIA_TYPE})


def _serve_page(app: App) -> http.Response:
    return page_response(app.websocket_docs.page)


def _asset_handler(name: str) -> Callable[[], http.Response]:
    """Return a handler that serves a script or style of the page."""

    def serve_asset() -> http.Response:
        return asset_response(name)

    return serve_asset


async def _explain_denial(app: App, scope: ASGIScope, body: http.Body) -> http.Response:
    """Serve the response to a handshake, which browsers do not show."""
    return await denial_response(app.websocket_lifecycle, scope, body)
