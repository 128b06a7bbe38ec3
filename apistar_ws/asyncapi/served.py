"""The document of one application, made once, and its answer over HTTP."""

import json
import posixpath
from typing import Any, Dict, List, Tuple

from apistar import http

from apistar_ws.asyncapi.document import MEDIA_TYPE, Description, describe, document
from apistar_ws.asyncapi.jsonschema import Schemas
from apistar_ws.documented import Places


def descriptions(app: Any) -> Tuple[List[Description], Schemas]:
    """Return what is known of the routes of an application; it is found out once."""
    if 'descriptions' not in app.websocket_pages:
        on_request = app.get_event_hooks()[0]
        found = describe(app.websocket_lifecycle.endpoints, app.injector.components, on_request)
        app.websocket_pages['descriptions'] = found
    known: Tuple[List[Description], Schemas] = app.websocket_pages['descriptions']
    return known


def document_of(app: Any) -> Dict[str, Any]:
    """Return the AsyncAPI document of an application."""
    described, schemas = descriptions(app)
    places: Places = app.websocket_places
    return document(described, schemas, places.has_limits, links(places))


def links(places: Places) -> Dict[str, str]:
    """Return where the pages are, as seen from the document."""
    found = {'page': places.docs_url, 'http': places.http_docs_url}
    return {name: relative(places.schema_url or '/', url) for name, url in found.items() if url is not None}


def relative(place: str, url: str) -> str:
    """Return ``url`` as seen from ``place``, so that a prefix that a proxy has put before both does not matter."""
    path = posixpath.relpath(url, posixpath.dirname(place))
    return path + '/' if url.endswith('/') else path


def document_response(app: Any) -> http.Response:
    """Return the document over HTTP."""
    content = json.dumps(app.asyncapi, ensure_ascii=False, indent=1).encode()
    return http.Response(content, headers={'Content-Type': MEDIA_TYPE})
