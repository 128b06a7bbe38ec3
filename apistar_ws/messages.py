"""What a message holds: the JSON codec, and the types of API Star that a route declares for it."""

import datetime
import json
import math
import types as python_types
import typing
from typing import Any, Callable, Dict, List, Mapping, Protocol, Sequence, Tuple, Type, Union

from apistar import types, validators
from apistar.exceptions import ConfigurationError, ValidationError

from apistar_ws.exceptions import InvalidMessage

MessageType = Union[Type[types.Type], validators.Validator, Sequence[Type[types.Type]]]

UNION_TYPES = (Union, getattr(python_types, 'UnionType', Union))
FORMAT_NAMES = {datetime.datetime: 'datetime', datetime.date: 'date', datetime.time: 'time'}


class Codec(Protocol):
    """What ``WebSocketComponent(json=...)`` takes: the ``json`` module, ``orjson``, or any object like them.

    Give an object of your own to change how values become JSON and back.
    """

    def dumps(self, value: Any, /) -> Union[str, bytes]:
        """Return ``value`` as JSON."""

    def loads(self, data: Union[str, bytes], /) -> Any:
        """Return the value of the JSON ``data``; raise ``ValueError`` where it is not JSON."""


def primitive(value: Any) -> Any:
    """Return ``value`` with API Star's types, dates and times in it turned into what JSON knows.

    Call it before a codec that knows nothing of API Star.
    """
    if isinstance(value, Mapping):
        return {key: primitive(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [primitive(item) for item in value]
    if type(value) in FORMAT_NAMES:
        return validators.FORMATS[FORMAT_NAMES[type(value)]].to_string(value)
    return value


def primitive_object(value: Any) -> Any:
    """Return an object that JSON does not know as one that it does; the ``default`` of the standard encoder."""
    converted = primitive(value)
    if converted is value:
        raise TypeError('Object of type %r is not JSON serializable.' % type(value).__name__)
    return converted


def refuse_constant(name: str) -> Any:
    """Refuse ``NaN`` and the infinities, which Python reads and JSON does not have (RFC 8259 section 6)."""
    raise ValueError('%s is not a JSON value' % name)


def finite_float(text: str) -> float:
    """Return the number that ``text`` writes, unless it is too large and would become an infinity."""
    value = float(text)
    if math.isinf(value):
        raise ValueError('%s is too large a number' % text)
    return value


def json_encoder(ensure_ascii: bool) -> Callable[[Any], str]:
    """Return what writes JSON, compact and without NaN."""
    return json.JSONEncoder(
        ensure_ascii=ensure_ascii, allow_nan=False, separators=(',', ':'), default=primitive_object
    ).encode


def is_encodable(text: str) -> bool:
    """Tell whether UTF-8 can encode ``text``: it cannot where a lone surrogate came in by an escape of JSON."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class StandardCodec:
    """JSON by the standard library, written as API Star writes it: compact, in UTF-8, without NaN.

    The default of ``WebSocketComponent(json=...)``.
    """

    def __init__(self) -> None:
        self._encode = json_encoder(ensure_ascii=False)
        self._escape = json_encoder(ensure_ascii=True)
        self._decode = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite_float).decode

    def dumps(self, value: Any) -> str:
        """Return ``value`` as JSON text."""
        text = self._encode(value)
        return text if is_encodable(text) else self._escape(value)

    def loads(self, data: Union[str, bytes]) -> Any:
        """Return the value of the JSON ``data``; raise ``ValueError`` where it is not JSON."""
        return self._decode(data if isinstance(data, str) else data.decode())


class ForeignCodec:
    """Lets a codec that knows nothing of API Star's types stand where :class:`StandardCodec` does.

    Made by the settings for what ``WebSocketComponent(json=...)`` was given.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.loads = codec.loads

    def dumps(self, value: Any) -> str:
        """Return ``value`` as JSON text."""
        data = self._codec.dumps(primitive(value))
        return data if isinstance(data, str) else data.decode()


JSONCodec = Union[StandardCodec, ForeignCodec]
STANDARD_CODEC = StandardCodec()


def json_codec(codec: Any) -> JSONCodec:
    """Return the codec that stands behind ``WebSocketComponent(json=codec)``.

    :raises ConfigurationError: if it lacks ``dumps`` or ``loads``.
    """
    if codec is json or isinstance(codec, StandardCodec):
        return STANDARD_CODEC
    if callable(getattr(codec, 'dumps', None)) and callable(getattr(codec, 'loads', None)):
        return ForeignCodec(codec)
    raise ConfigurationError('json=%r needs the methods dumps(value) and loads(data).' % (codec,))


def decode_json(codec: JSONCodec, data: Union[str, bytes]) -> Any:
    """Return the value of the JSON ``data``.

    :raises InvalidMessage: where it is not JSON, with API Star's detail: what was expected, and the position.
    """
    try:
        return codec.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidMessage('Malformed JSON. %s' % exc, reason='Malformed JSON') from None


class Schema:
    """A declared message type: one ``types.Type``, a validator, or several types told apart by ``type``.

    Made once per route, at decoration; a single ``receive(ChatMessage)`` makes one too.

    :raises ConfigurationError: if the declaration is none of these.
    """

    def __init__(self, declared: MessageType) -> None:
        members = union_members(declared)
        declared = members if len(members) > 1 else declared
        self.declared = declared
        self._validate = validate_by_type(declared) if isinstance(declared, (list, tuple)) else validate_one(declared)

    def decode(self, data: Any) -> Any:
        """Return the validated instance for ``data``, a value of JSON.

        :raises InvalidMessage: with API Star's error detail, field by field.
        """
        try:
            return self._validate(data)
        except ValidationError as exc:
            raise InvalidMessage(exc.detail, reason=reason_for(exc.detail)) from None
        except (ValueError, OverflowError, RecursionError):
            # API Star's validators leak these: a date of the 45th, a number beyond a float, nesting without end.
            raise InvalidMessage('Must be a valid value.') from None

    def encode(self, value: Any) -> Any:
        """Return ``value`` validated, ready for the codec.

        :raises ValidationError: API Star's own, if the program sends what it did not declare.
        """
        if isinstance(value, types.Type):
            value = dict(value)
        return self._validate(value)


def reason_for(detail: Any) -> str:
    """Return a close reason for a failed validation; which fields failed, where it is more than a sentence."""
    if isinstance(detail, str):
        return detail
    return 'Invalid message: %s' % ', '.join(str(key) for key in detail)


def union_members(annotation: Any) -> List[Any]:
    """Return what a union is of, without None, or the annotation itself if it is none."""
    members = typing.get_args(annotation) if typing.get_origin(annotation) in UNION_TYPES else (annotation,)
    return [member for member in members if member is not type(None)]


def is_message_type(declared: Any) -> bool:
    """Tell whether ``declared`` is a subclass of API Star's ``types.Type``."""
    return isinstance(declared, type) and issubclass(declared, types.Type)


def validate_one(declared: Any) -> Callable[[Any], Any]:
    """Return what validates a value of one type or validator."""
    if not is_message_type(declared) and not isinstance(declared, validators.Validator):
        raise ConfigurationError(
            'A message type is a types.Type, a validator, or a list of types.Types; %r is none.' % (declared,)
        )
    validate: Callable[[Any], Any] = declared.validate
    return validate


def validate_by_type(declared: Sequence[Any]) -> Callable[[Any], Any]:
    """Return what validates a value of several types, told apart by their constant ``type`` property."""
    by_type: Dict[str, Any] = {}
    for message_type in declared:
        for constant in constant_types(message_type):
            if constant in by_type:
                raise ConfigurationError(
                    'The message types %s and %s have the same constant type %r.'
                    % (by_type[constant].__name__, message_type.__name__, constant)
                )
            by_type[constant] = message_type
    envelope = validators.Object(properties=[('type', validators.String(enum=list(by_type)))], required=['type'])

    def validate(value: Any) -> Any:
        return by_type[envelope.validate(value)['type']].validate(value)

    return validate


def constant_types(message_type: Any) -> Tuple[str, ...]:
    """Return the one value that the ``type`` property of ``message_type`` may have."""
    if is_message_type(message_type):
        validator = message_type.validator.properties.get('type')
        enum = getattr(validator, 'enum', None)
        if enum is not None and len(enum) == 1:
            return (enum[0],)
    raise ConfigurationError(
        'In a list of message types each needs a constant type property, '
        "type = validators.String(enum=['...']); %r has none." % (message_type,)
    )
