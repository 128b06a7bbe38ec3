"""The AsyncAPI document of the WebSocket routes of an application."""

import collections.abc
import inspect
import json
import logging
import typing
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from apistar_ws.asyncapi.arguments import Argument, arguments_of
from apistar_ws.asyncapi.examples import NoExample, example_of
from apistar_ws.asyncapi.jsonschema import INVALID_IN_NAMES, JSON, Schemas, free_name
from apistar_ws.codes import EXPIRED, CloseCode
from apistar_ws.injection.signatures import handler_signature
from apistar_ws.messages.schema import Schema
from apistar_ws.messages.validation import is_message_type
from apistar_ws.routing.decorators import Declaration, bare_handler, declaration_for
from apistar_ws.serving.endpoint import Endpoint
from apistar_ws.settings import Settings

logger = logging.getLogger('apistar_ws')

_VERSION = '3.1.0'
MEDIA_TYPE = 'application/vnd.aai.asyncapi+json;version=%s' % _VERSION
JSON_TYPE, TEXT_TYPE, BYTES_TYPE = 'application/json', 'text/plain', 'application/octet-stream'
#: Return annotations of async generators.
_ITERATORS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
#: The meanings of close codes that any route may use.
_CLOSE_CODES = {
    CloseCode.NORMAL_CLOSURE: 'The handler has returned.',
    CloseCode.UNSUPPORTED_DATA: 'Text where bytes were expected, or bytes where text was.',
    CloseCode.INVALID_PAYLOAD: 'A message is not JSON, or not what the route declares.',
    CloseCode.POLICY_VIOLATION: 'The client sends too fast, or does not read.',
    CloseCode.MESSAGE_TOO_BIG: 'A message is too large.',
    CloseCode.INTERNAL_ERROR: 'The server has failed.',
    CloseCode.SERVICE_RESTART: 'The server restarts: come back.',
    CloseCode.TRY_AGAIN_LATER: 'The server cannot serve this client now: come back later.',
}
#: Settings that the document includes on request.
_LIMITS = (
    'max_message_size', 'max_messages_per_second', 'idle_timeout', 'send_timeout', 'backlog_timeout', 'max_connections',
)  # fmt: skip


class MessageDescription(NamedTuple):
    """A message that a route receives or sends."""

    name: str
    title: str
    content_type: str
    payload: JSON
    #: Its text to begin with on the page, which may contain placeholders.
    template: str = ''
    #: A valid object, if one was found.
    example: Optional[JSON] = None


class Description(NamedTuple):
    """A route, as it is documented."""

    id: str
    url: str
    summary: str
    description: str
    arguments: List[Argument]
    receives: List[MessageDescription]
    sends: List[MessageDescription]
    #: Whether its sent messages are replies to received ones.
    replies: bool
    #: Whether the handshake is accepted before the handler runs.
    connect: bool
    settings: Settings


def describe(
    endpoints: Sequence[Endpoint], components: Sequence[Any], hooks: Iterable[Any]
) -> Tuple[List[Description], Schemas]:
    """Return the descriptions of the documented routes, and the schemas that they refer to."""
    schemas, hooks = Schemas(), list(hooks)
    described: List[Description] = []
    for endpoint in endpoints:
        if not endpoint.documented:
            continue
        declaration = declaration_for(endpoint.route.handler, endpoint.route.url)
        id = free_name(INVALID_IN_NAMES.sub('.', endpoint.name), {item.id: item for item in described})
        try:
            described.append(_describe_route(id, endpoint, declaration, components, hooks, schemas))
        except Exception:
            # A validator defined by the user may fail in any way.
            logger.exception('The WebSocket route %r cannot be described and is omitted.', endpoint.url)
    return described, schemas


def _describe_route(
    id: str, endpoint: Endpoint, declaration: Declaration, components: Sequence[Any], hooks: List[Any], schemas: Schemas
) -> Description:
    handler = bare_handler(endpoint.route.handler)
    typed = declaration.typed_handler(handler)
    signature = handler_signature(handler)
    is_listener = 'message' in signature.parameters and declaration.adapt is not None
    message = signature.parameters['message'].annotation if is_listener else None
    receives = _messages(typed.receives, message, schemas)
    sends = _messages(typed.sends, _returned_type(signature.return_annotation), schemas)
    is_stream = inspect.isasyncgenfunction(inspect.unwrap(getattr(handler, '__func__', handler)))
    replies = is_listener and signature.return_annotation not in (None, inspect.Signature.empty)
    summary, _, description = inspect.cleandoc(handler.__doc__ or '').partition('\n')
    arguments = arguments_of(typed.handler, endpoint.url, components, hooks)
    return Description(
        id, endpoint.url, summary, description.strip(), arguments, [] if is_stream else receives, sends,
        replies, declaration.connect, endpoint.settings,
    )  # fmt: skip


def _returned_type(annotation: Any) -> Any:
    """Return the type that a handler returns or yields, from its return annotation."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) in _ITERATORS else annotation


def _messages(schema: Optional[Schema], annotation: Any, schemas: Schemas) -> List[MessageDescription]:
    if schema is None:
        return [_PRIMITIVE[annotation] if isinstance(annotation, type) and annotation in _PRIMITIVE else _UNTYPED]
    declared = schema.declared if isinstance(schema.declared, (list, tuple)) else [schema.declared]
    return [_typed_message(item, schemas) for item in declared]


_UNTYPED = MessageDescription('message', 'Text or bytes', TEXT_TYPE, {})
_PRIMITIVE = {
    str: MessageDescription('text', 'Text', TEXT_TYPE, {'type': 'string'}),
    bytes: MessageDescription('bytes', 'Bytes', BYTES_TYPE, {'type': 'string', 'format': 'binary'}),
}


def _typed_message(declared: Any, schemas: Schemas) -> MessageDescription:
    """Return the message for a type or a validator."""
    is_type = is_message_type(declared)
    name = declared.__name__ if is_type else declared.def_name or declared.title or type(declared).__name__
    message = MessageDescription(INVALID_IN_NAMES.sub('_', name), name, JSON_TYPE, schemas.of(declared))
    try:
        value, is_valid = example_of(declared)
    except NoExample:
        return message
    example = value if is_valid and isinstance(value, dict) else None
    return MessageDescription(*message[:4], json.dumps(value, indent=2, ensure_ascii=False), example)


def document(described: Sequence[Description], schemas: Schemas, has_limits: bool, links: JSON) -> JSON:
    """Return the document.

    :param has_limits: whether to include the limits of the routes.
    :param links: relative URLs of related pages, by name.
    """
    channels = {item.id: _channel(item, has_limits) for item in described}
    made: JSON = {
        'asyncapi': _VERSION,
        'info': {'title': 'WebSockets', 'version': '1.0.0', **({'x-links': links} if links else {})},
        'defaultContentType': JSON_TYPE,
        'channels': channels,
        'operations': {name: made for item in described for name, made in _operations(item)},
    }
    if schemas.components:
        made['components'] = {'schemas': schemas.components}
    return made


def _channel(item: Description, has_limits: bool) -> JSON:
    in_path = [argument for argument in item.arguments if argument.place == 'path']
    made: JSON = {
        # In AsyncAPI a path parameter has no plus.
        'address': item.url.replace('{+', '{'),
        'title': item.id,
        'summary': item.summary,
        'description': item.description,
        'messages': {key: _message(message) for key, message in _messages_by_key(item).items()},
        'parameters': {argument.name: _parameter(argument) for argument in in_path},
        'bindings': {'ws': _binding(item)},
        'x-subprotocols': list(item.settings.subprotocols),
        'x-close-codes': _close_codes(item),
    }
    if has_limits:
        made['x-limits'] = {name: getattr(item.settings, name) for name in _LIMITS}
    return {name: value for name, value in made.items() if value}


def _messages_by_key(item: Description) -> Dict[str, MessageDescription]:
    """Return the messages of a route by their keys in its channel."""
    made: Dict[str, MessageDescription] = {}
    for message in (*item.receives, *item.sends):
        known = made.get(message.name)
        if known is None:
            made[message.name] = message
        elif known != message:
            made[free_name(message.name, made)] = message
    return made


def _message(message: MessageDescription) -> JSON:
    made: JSON = {'name': message.name, 'title': message.title, 'contentType': message.content_type}
    if message.payload:
        made['payload'] = message.payload
    if message.example is not None:
        made['examples'] = [{'payload': message.example}]
    return made


def _parameter(argument: Argument) -> JSON:
    """Return a parameter of the address; in AsyncAPI 3 it has no schema."""
    kind = argument.schema['type']
    made: JSON = {'description': '%s %s.' % ('An' if kind == 'integer' else 'A', kind)}
    if 'default' in argument.schema:
        made['default'] = str(argument.schema['default'])
    return {**made, 'examples': [sample_text(argument)]}


def sample_text(argument: Argument) -> str:
    """Return an example of an argument as it is written in a URL."""
    if 'default' in argument.schema:
        return str(argument.schema['default'])
    return {'integer': '1', 'number': '1.5', 'boolean': 'true'}.get(argument.schema['type'], argument.name)


def _binding(item: Description) -> JSON:
    """Return the WebSocket binding of a channel: query parameters and headers of the handshake."""
    made: JSON = {'method': 'GET', 'bindingVersion': '0.1.0'}
    for place, name in [('query', 'query'), ('header', 'headers')]:
        found = [argument for argument in item.arguments if argument.place == place]
        if found:
            required = [argument.name for argument in found if argument.required]
            properties = {argument.name: argument.schema for argument in found}
            made[name] = {'type': 'object', 'properties': properties, **({'required': required} if required else {})}
    return made


def _close_codes(item: Description) -> Dict[str, str]:
    """Return the close codes that the application may use, with their meanings."""
    codes = {str(int(code)): text for code, text in _CLOSE_CODES.items()}
    if item.settings.idle_timeout is not None:
        codes['1001'] = 'Nothing was received for %g seconds.' % item.settings.idle_timeout
    codes[str(EXPIRED)] = 'The connection has expired, or nobody is logged in.'
    codes['4400 to 4599'] = '4000 and a status of HTTP, for what the handler has raised: 4403 is Forbidden.'
    return dict(sorted(codes.items()))


def _operations(item: Description) -> List[Tuple[str, JSON]]:
    """Return the operations of a channel: receive and send, or receive with a reply."""
    at = {'$ref': '#/channels/%s' % item.id}
    keys = _messages_by_key(item)

    def refer(found: List[MessageDescription]) -> List[JSON]:
        used = [key for one in found for key, message in keys.items() if message == one]
        return [{'$ref': '#/channels/%s/messages/%s' % (item.id, key)} for key in dict.fromkeys(used)]

    made: List[Tuple[str, JSON]] = []
    if item.receives:
        receive: JSON = {'action': 'receive', 'channel': at, 'messages': refer(item.receives)}
        if item.replies:
            receive['reply'] = {'channel': at, 'messages': refer(item.sends)}
        made.append((item.id + '.receive', receive))
    if not item.replies:
        made.append((item.id + '.send', {'action': 'send', 'channel': at, 'messages': refer(item.sends)}))
    return made
