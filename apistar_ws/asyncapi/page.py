"""The page on which each WebSocket route can be tried, in the theme of API Star's documentation."""

import functools
import json
from importlib import resources
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import jinja2
from apistar import http
from apistar.exceptions import NoReverseMatch
from markupsafe import Markup

from apistar_ws.asyncapi.arguments import Argument
from apistar_ws.asyncapi.document import JSON_TYPE, Description, MessageDescription, sample
from apistar_ws.asyncapi.jsonschema import Schemas
from apistar_ws.asyncapi.urls import asset_url, relative

#: The script and the style of the page.
ASSETS = ('console.js', 'console.css')
CONTENT_TYPES = {'console.js': 'text/javascript; charset=utf-8', 'console.css': 'text/css; charset=utf-8'}
#: The styles of API Star's own page.
THEME = ('apistar/css/bootstrap.min.css', 'apistar/css/base.css')
#: No script but the page's own; a hook may be stricter.
POLICY = "script-src 'self'; object-src 'none'; base-uri 'none'"


class Field(NamedTuple):
    """An input for one argument of a handshake."""

    name: str
    place: str
    kind: str
    required: bool
    value: str
    placeholder: str


class Shown(NamedTuple):
    """A message, as it is shown."""

    title: str
    schema: str


def page_response(page: str) -> http.Response:
    """Return the page over HTTP."""
    return http.HTMLResponse(page, headers={'Content-Security-Policy': POLICY})


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
    :param links: text and relative URL of other pages.
    :param explains: whether the page may ask how a handshake would be answered.
    :param static_url: returns the URL of a static file of the application.
    """
    return template().render(
        page=here,
        script=relative(here, asset_url(here, 'console.js')),
        styles=[*theme(static_url, here), relative(here, asset_url(here, 'console.css'))],
        links=links,
        explains=explains,
        routes=[shown_route(item, schemas) for item in described],
    )


def theme(static_url: Callable[[str], str], here: str) -> List[str]:
    """Return the URLs of API Star's styles, if the application serves them."""
    try:
        return [relative(here, static_url(name)) for name in THEME]
    except NoReverseMatch:
        return []


@functools.lru_cache(maxsize=1)
def template() -> jinja2.Template:
    """Return the template of the page."""
    environment = jinja2.Environment(autoescape=True)
    return environment.from_string(text_of('templates', 'page.html'))


def text_of(folder: str, name: str) -> str:
    """Return a file of this package."""
    return (resources.files('apistar_ws.asyncapi') / folder / name).read_text(encoding='utf-8')


def asset_response(name: str) -> http.Response:
    """Return the script or the style of the page; made for each request, since a hook may add a cookie to it."""
    headers = {'Content-Type': CONTENT_TYPES[name], 'Cache-Control': 'no-cache'}
    return http.Response(asset(name), headers=headers)


@functools.lru_cache(maxsize=None)
def asset(name: str) -> bytes:
    """Return the content of the script or the style of the page."""
    return text_of('static', name).encode()


def shown_route(item: Description, schemas: Schemas) -> Dict[str, Any]:
    """Return what the template shows of a route."""
    return {
        'id': item.id,
        'url': item.url,
        'summary': item.summary,
        'description': item.description,
        'connect': item.connect,
        'arguments': [field(argument) for argument in item.arguments if argument.place != 'header'],
        'headers': [argument.name for argument in item.arguments if argument.place == 'header'],
        'subprotocols': ', '.join(item.settings.subprotocols),
        'directions': [
            (title, [shown_message(message) for message in found])
            for title, found in [('To the server', item.receives), ('From the server', item.sends)]
            if found
        ],
        'templates': item.receives,
        'data': embedded(data_of(item, schemas)),
    }


def field(argument: Argument) -> Field:
    """Return the input for an argument, filled in where it has a default or is part of the path."""
    has_value = 'default' in argument.schema or argument.place == 'path'
    text = sample(argument)
    value, placeholder = (text, '') if has_value else ('', text)
    return Field(argument.name, argument.place, argument.schema['type'], argument.required, value, placeholder)


def shown_message(message: MessageDescription) -> Shown:
    """Return a message as it is shown."""
    return Shown(message.title, json.dumps(message.payload, indent=2, ensure_ascii=False) if message.payload else 'any')


def data_of(item: Description, schemas: Schemas) -> Dict[str, Any]:
    """Return what the script knows of a route: templates of messages, and schemas to check them by."""
    return {
        'typed': any(message.content_type == JSON_TYPE for message in item.receives),
        'templates': [{'text': message.template, 'schema': message.payload} for message in item.receives],
        'schemas': needed([message.payload for message in item.receives], schemas.components),
    }


def needed(value: Any, components: Dict[str, Any]) -> Dict[str, Any]:
    """Return the schemas that ``value`` refers to, and those that they refer to."""
    found: Dict[str, Any] = {}
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            # A property may have that name too.
            reference = part.get('$ref')
            name = reference.rpartition('/')[2] if isinstance(reference, str) else ''
            if name in components and name not in found:
                found[name] = components[name]
                waiting.append(found[name])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def embedded(value: Any) -> Markup:
    """Return a value as JSON that can stand in a script element."""
    return Markup(json.dumps(value).replace('<', '\\u003c').replace('&', '\\u0026'))
