"""The page to try the WebSocket routes, in the theme of API Star's documentation."""

import functools
import json
import posixpath
from importlib import resources
from typing import Any, Callable, Dict, List, Sequence, Tuple

import jinja2
from apistar import http
from apistar.exceptions import NoReverseMatch
from markupsafe import Markup

from apistar_ws.asyncapi.arguments import Argument
from apistar_ws.asyncapi.document import JSON_TYPE, Description, sample_text
from apistar_ws.asyncapi.jsonschema import Schemas

#: The script and the style of the page.
ASSETS = ('console.js', 'console.css')
_CONTENT_TYPES = {'console.js': 'text/javascript; charset=utf-8', 'console.css': 'text/css; charset=utf-8'}
#: The styles of API Star's documentation.
_THEME = ('apistar/css/bootstrap.min.css', 'apistar/css/base.css')
#: Only the script of the page may run.
_POLICY = "script-src 'self'; object-src 'none'; base-uri 'none'"


def relative(here: str, url: str) -> str:
    """Return ``url`` relative to ``here``, so that it is correct behind a proxy that adds a prefix to both."""
    path = posixpath.relpath(url, posixpath.dirname(here))
    return path + '/' if url.endswith('/') else path


def asset_url(docs_url: str, name: str) -> str:
    """Return the URL of a script or style of the page."""
    return '%s/%s' % (docs_url.rstrip('/'), name)


def page_response(page: str) -> http.Response:
    """Return the response for the page."""
    return http.HTMLResponse(page, headers={'Content-Security-Policy': _POLICY})


def render(
    here: str,
    described: Sequence[Description],
    schemas: Schemas,
    links: Sequence[Tuple[str, str]],
    explains: bool,
    static_url: Callable[[str], str],
) -> str:
    """Return the HTML of the page.

    :param here: the URL of the page.
    :param links: texts and relative URLs of other pages.
    :param explains: whether the page can show the response to a denied handshake.
    :param static_url: returns the URL of a static file of the application.
    """
    return _template().render(
        page=here,
        script=relative(here, asset_url(here, 'console.js')),
        styles=[*_theme(static_url, here), relative(here, asset_url(here, 'console.css'))],
        links=links,
        explains=explains,
        routes=[_route(item, schemas) for item in described],
    )


def _theme(static_url: Callable[[str], str], here: str) -> List[str]:
    """Return the URLs of API Star's styles, or none if the application does not serve them."""
    try:
        return [relative(here, static_url(name)) for name in _THEME]
    except NoReverseMatch:
        return []


@functools.lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(read_text('templates', 'page.html'))


@functools.lru_cache(maxsize=None)
def read_text(folder: str, name: str) -> str:
    """Return the text of a file of this package."""
    return (resources.files('apistar_ws.asyncapi') / folder / name).read_text(encoding='utf-8')


def asset_response(name: str) -> http.Response:
    """Return a new response for the script or the style of the page; a hook may add a cookie to it."""
    headers = {'Content-Type': _CONTENT_TYPES[name], 'Cache-Control': 'no-cache'}
    return http.Response(read_text('static', name).encode(), headers=headers)


def _route(item: Description, schemas: Schemas) -> Dict[str, Any]:
    """Return the variables of a route for the template."""
    return {
        'id': item.id,
        'url': item.url,
        'summary': item.summary,
        'description': item.description,
        'connect': item.connect,
        'arguments': [_field(argument) for argument in item.arguments if argument.place != 'header'],
        'headers': [argument.name for argument in item.arguments if argument.place == 'header'],
        'subprotocols': ', '.join(item.settings.subprotocols),
        'directions': [
            (title, [(message.title, _schema_text(message.payload)) for message in found])
            for title, found in [('To the server', item.receives), ('From the server', item.sends)]
            if found
        ],
        'templates': item.receives,
        'data': _script_json(_console_data(item, schemas)),
    }


def _field(argument: Argument) -> Dict[str, Any]:
    """Return the input for an argument, with a value if it has a default or is part of the path."""
    has_value = 'default' in argument.schema or argument.place == 'path'
    return {
        'name': argument.name,
        'place': argument.place,
        'kind': argument.schema['type'],
        'required': argument.required,
        'value' if has_value else 'placeholder': sample_text(argument),
    }


def _schema_text(schema: Dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) if schema else 'any'


def _console_data(item: Description, schemas: Schemas) -> Dict[str, Any]:
    """Return the data of a route for the script: templates of messages, and the schemas to check messages."""
    return {
        'typed': any(message.content_type == JSON_TYPE for message in item.receives),
        'templates': [{'text': message.template, 'schema': message.payload} for message in item.receives],
        'schemas': _referenced([message.payload for message in item.receives], schemas.components),
    }


def _referenced(value: Any, components: Dict[str, Any]) -> Dict[str, Any]:
    """Return the schemas that ``value`` refers to, directly or indirectly."""
    found: Dict[str, Any] = {}
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            # A property may be named $ref too.
            reference = part.get('$ref')
            name = reference.rpartition('/')[2] if isinstance(reference, str) else ''
            if name in components and name not in found:
                found[name] = components[name]
                pending.append(found[name])
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return found


def _script_json(value: Any) -> Markup:
    """Return a value as JSON for a script element."""
    return Markup(json.dumps(value).replace('<', '\\u003c').replace('&', '\\u0026'))
