"""The AsyncAPI document of an application: its WebSocket routes, with all that they declare."""

import collections.abc
import inspect
import json
import logging
import typing
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from apistar_ws.asyncapi.arguments import Argument, arguments_of
from apistar_ws.asyncapi.examples import NoExample, example_of
from apistar_ws.asyncapi.jsonschema import JSON, NAME_IS_FREE, Schemas, free_name
from apistar_ws.codes import EXPIRED, CloseCode
from apistar_ws.injection.signatures import handler_signature
from apistar_ws.messages.schema import Schema
from apistar_ws.messages.validation import is_message_type
from apistar_ws.routing.decorators import Declaration, bare_handler, declaration_for
from apistar_ws.serving.endpoint import Endpoint
from apistar_ws.settings import Settings

logger = logging.getLogger('apistar_ws')

ASYNCAPI_VERSION = '3.1.0'
MEDIA_TYPE = 'application/vnd.aai.asyncapi+json;version=%s' % ASYNCAPI_VERSION
JSON_TYPE, TEXT_TYPE, BYTES_TYPE = 'application/json', 'text/plain', 'application/octet-stream'
#: What an async generator may be annotated with.
ITERATORS = (collections.abc.AsyncIterator, collections.abc.AsyncGenerator, collections.abc.AsyncIterable)
#: What a close code means, whichever route it comes from.
CODES = {
    CloseCode.NORMAL_CLOSURE: 'The handler has returned.',
    CloseCode.UNSUPPORTED_DATA: 'Text where bytes were expected, or bytes where text was.',
    CloseCode.INVALID_PAYLOAD: 'A message is not JSON, or not what the route declares.',
    CloseCode.POLICY_VIOLATION: 'The client sends too fast, or does not read.',
    CloseCode.MESSAGE_TOO_BIG: 'A message is too large.',
    CloseCode.INTERNAL_ERROR: 'The server has failed.',
    CloseCode.SERVICE_RESTART: 'The server restarts: come back.',
    CloseCode.TRY_AGAIN_LATER: 'The server cannot serve this client now: come back later.',
}
#: Settings that the document has if it is asked to.
LIMITS = (
    'max_message_size', 'max_messages_per_second', 'idle_timeout', 'send_timeout', 'backlog_timeout', 'max_connections',
)  # fmt: skip


class MessageDescription(NamedTuple):
    """One kind of message of a route, one way."""

    name: str
    title: str
    content_type: str
    payload: JSON
    #: Its text to begin with on the page, which may contain placeholders.
    template: str = ''
    #: A valid object, if one was found.
    example: Optional[JSON] = None


class Description(NamedTuple):
    """All that is known of a route."""

    id: str
    url: str
    summary: str
    description: str
    arguments: List[Argument]
    receives: List[MessageDescription]
    sends: List[MessageDescription]
    #: Whether what it sends answers what it receives.
    replies: bool
    #: Whether it is connected before its handler runs.
    connect: bool
    settings: Settings


def describe(
    endpoints: Sequence[Endpoint], components: Sequence[Any], hooks: Iterable[Any]
) -> Tuple[List[Description], Schemas]:
    """Return the descriptions of the routes that are documented, and the schemas that they refer to."""
    schemas, hooks = Schemas(), list(hooks)
    described: List[Description] = []
    for endpoint in endpoints:
        if not endpoint.documented:
            continue
        declaration = declaration_for(endpoint.route.handler, endpoint.route.url)
        id = free_name(NAME_IS_FREE.sub('.', endpoint.name), {item.id: item for item in described})
        try:
            described.append(describe_route(id, endpoint, declaration, components, hooks, schemas))
        except Exception:
            # A validator of the user's own may be anything; the other routes are described.
            logger.exception('The WebSocket route %r cannot be described, and is left out.', endpoint.url)
    return described, schemas


def describe_route(
    id: str, endpoint: Endpoint, declaration: Declaration, components: Sequence[Any], hooks: List[Any], schemas: Schemas
) -> Description:
    """Return the description of one route."""
    handler = bare_handler(endpoint.route.handler)
    serving = declaration.serving(handler)
    signature = handler_signature(handler)
    is_listener = 'message' in signature.parameters and declaration.adapt is not None
    message = signature.parameters['message'].annotation if is_listener else None
    receives = messages(serving.receives, message, schemas)
    sends = messages(serving.sends, returned(signature.return_annotation), schemas)
    is_stream = inspect.isasyncgenfunction(inspect.unwrap(getattr(handler, '__func__', handler)))
    replies = is_listener and signature.return_annotation not in (None, inspect.Signature.empty)
    summary, _, description = inspect.cleandoc(handler.__doc__ or '').partition('\n')
    arguments = arguments_of(serving.handler, endpoint.url, components, hooks)
    return Description(
        id, endpoint.url, summary, description.strip(), arguments, [] if is_stream else receives, sends,
        replies, declaration.connect, endpoint.settings,
    )  # fmt: skip


def returned(annotation: Any) -> Any:
    """Return what a handler returns or a generator yields, by its annotation."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) in ITERATORS else annotation


def messages(schema: Optional[Schema], annotation: Any, schemas: Schemas) -> List[MessageDescription]:
    """Return the kinds of messages of one direction."""
    if schema is None:
        return [UNTYPED[annotation] if isinstance(annotation, type) and annotation in UNTYPED else ANY]
    declared = schema.declared if isinstance(schema.declared, (list, tuple)) else [schema.declared]
    return [typed(item, schemas) for item in declared]


ANY = MessageDescription('message', 'Text or bytes', TEXT_TYPE, {})
UNTYPED = {
    str: MessageDescription('text', 'Text', TEXT_TYPE, {'type': 'string'}),
    bytes: MessageDescription('bytes', 'Bytes', BYTES_TYPE, {'type': 'string', 'format': 'binary'}),
}


def typed(declared: Any, schemas: Schemas) -> MessageDescription:
    """Return the message that a type or a validator declares."""
    is_type = is_message_type(declared)
    name = declared.__name__ if is_type else declared.def_name or declared.title or type(declared).__name__
    message = MessageDescription(NAME_IS_FREE.sub('_', name), name, JSON_TYPE, schemas.of(declared))
    try:
        value, is_valid = example_of(declared)
    except NoExample:
        return message
    example = value if is_valid and isinstance(value, dict) else None
    # Not NamedTuple._replace, whose name says that it is private.
    return MessageDescription(*message[:4], json.dumps(value, indent=2, ensure_ascii=False), example)


def document(described: Sequence[Description], schemas: Schemas, has_limits: bool, links: JSON) -> JSON:
    """Return the document.

    :param has_limits: whether it says the limits of the routes.
    :param links: where else to look, by name, relative to the document.
    """
    channels = {item.id: channel(item, has_limits) for item in described}
    made: JSON = {
        'asyncapi': ASYNCAPI_VERSION,
        'info': {'title': 'WebSockets', 'version': '1.0.0', **({'x-links': links} if links else {})},
        'defaultContentType': JSON_TYPE,
        'channels': channels,
        'operations': {name: made for item in described for name, made in operations(item)},
    }
    if schemas.components:
        made['components'] = {'schemas': schemas.components}
    return made


def channel(item: Description, has_limits: bool) -> JSON:
    """Return the channel of a route: its address, its messages, its handshake."""
    in_path = [argument for argument in item.arguments if argument.place == 'path']
    made: JSON = {
        'address': address(item.url),
        **texts(item),
        'messages': {key: described_message(message) for key, message in keyed(item).items()},
        'parameters': {argument.name: parameter(argument) for argument in in_path},
        'bindings': {'ws': binding(item)},
        'x-subprotocols': list(item.settings.subprotocols),
        'x-close-codes': close_codes(item),
    }
    if has_limits:
        made['x-limits'] = {name: getattr(item.settings, name) for name in LIMITS}
    return {name: value for name, value in made.items() if value}


def address(url: str) -> str:
    """Return a URL of API Star as AsyncAPI has it: a path parameter has no plus."""
    return url.replace('{+', '{')


def texts(item: Description) -> JSON:
    """Return what the docstring of the handler says."""
    return {'title': item.id, 'summary': item.summary, 'description': item.description}


def keyed(item: Description) -> Dict[str, MessageDescription]:
    """Return the messages of a route by the names that they have in its channel."""
    made: Dict[str, MessageDescription] = {}
    for message in (*item.receives, *item.sends):
        known = made.get(message.name)
        if known is None:
            made[message.name] = message
        elif known != message:
            made[free_name(message.name, made)] = message
    return made


def described_message(message: MessageDescription) -> JSON:
    """Return one message of a channel."""
    made: JSON = {'name': message.name, 'title': message.title, 'contentType': message.content_type}
    if message.payload:
        made['payload'] = message.payload
    if message.example is not None:
        made['examples'] = [{'payload': message.example}]
    return made


def parameter(argument: Argument) -> JSON:
    """Return a parameter of the address, which has no schema in AsyncAPI 3."""
    made: JSON = {'description': 'An %s.' % argument.schema['type'] if argument.schema['type'] == 'integer' else
                  'A %s.' % argument.schema['type']}  # fmt: skip
    if 'default' in argument.schema:
        made['default'] = str(argument.schema['default'])
    return {**made, 'examples': [sample(argument)]}


def sample(argument: Argument) -> str:
    """Return a value that an argument may have, as it is written in a URL."""
    if 'default' in argument.schema:
        return str(argument.schema['default'])
    return {'integer': '1', 'number': '1.5', 'boolean': 'true'}.get(argument.schema['type'], argument.name)


def binding(item: Description) -> JSON:
    """Return what the handshake holds."""
    made: JSON = {'method': 'GET', 'bindingVersion': '0.1.0'}
    for place, name in [('query', 'query'), ('header', 'headers')]:
        found = [argument for argument in item.arguments if argument.place == place]
        if found:
            required = [argument.name for argument in found if argument.required]
            properties = {argument.name: argument.schema for argument in found}
            made[name] = {'type': 'object', 'properties': properties, **({'required': required} if required else {})}
    return made


def close_codes(item: Description) -> Dict[str, str]:
    """Return the codes with which the application may close, and what they mean."""
    codes = {str(int(code)): text for code, text in CODES.items()}
    if item.settings.idle_timeout is not None:
        codes['1001'] = 'Nothing was received for %g seconds.' % item.settings.idle_timeout
    codes[str(EXPIRED)] = 'The connection has expired, or nobody is logged in.'
    codes['4400 to 4599'] = '4000 and a status of HTTP, for what the handler has raised: 4403 is Forbidden.'
    return dict(sorted(codes.items()))


def operations(item: Description) -> List[Tuple[str, JSON]]:
    """Return what the application does on a channel: receive, send, or receive and reply."""
    at = {'$ref': '#/channels/%s' % item.id}
    keys = keyed(item)

    def refer(found: List[MessageDescription]) -> List[JSON]:
        wanted = [next(key for key, message in keys.items() if message == one) for one in found]
        return [{'$ref': '#/channels/%s/messages/%s' % (item.id, key)} for key in dict.fromkeys(wanted)]

    made: List[Tuple[str, JSON]] = []
    if item.receives:
        receive: JSON = {'action': 'receive', 'channel': at, 'messages': refer(item.receives)}
        if item.replies:
            receive['reply'] = {'channel': at, 'messages': refer(item.sends)}
        made.append((item.id + '.receive', receive))
    if not item.replies:
        made.append((item.id + '.send', {'action': 'send', 'channel': at, 'messages': refer(item.sends)}))
    return made
