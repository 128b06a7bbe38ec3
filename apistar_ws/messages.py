"""What a message holds: the JSON codec, and the types of API Star that a route declares for it."""

import copy
import datetime
import json
import math
import traceback
import types as python_types
import typing
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple, Type, Union

from apistar import types, validators
from apistar.exceptions import ConfigurationError, ValidationError

from apistar_ws.exceptions import InvalidMessage

MessageType = Union[Type[types.Type], validators.Validator, Sequence[Type[types.Type]]]

UNION_TYPES = (Union, getattr(python_types, 'UnionType', Union))
#: Where a validator of API Star holds others.
PARTS = ('items', 'additional_items', 'properties', 'pattern_properties', 'additional_properties', 'definitions')
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
    """Return ``value`` with API Star's types, dates, times and keys in it turned into what JSON knows.

    Call it before a codec that knows nothing of API Star.

    :raises ValueError: for a key that is NaN or infinite, as the standard codec does.
    """
    if isinstance(value, Mapping):
        return {key if type(key) is str else json_key(key): primitive(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [primitive(item) for item in value]
    if type(value) in FORMAT_NAMES:
        return validators.FORMATS[FORMAT_NAMES[type(value)]].to_string(value)
    return value


def json_key(key: Any) -> Any:
    """Return ``key`` as the standard ``json`` module writes it; what it refuses is left for the codec to refuse."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (int, float)):
        return json.dumps(key, allow_nan=False)
    return key


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
        except AssertionError as exc:
            if not is_failed_uniqueness(exc):
                raise
            raise InvalidMessage('Must be a valid value.') from None

    def encode(self, value: Any) -> Any:
        """Return ``value`` validated, ready for the codec.

        :raises ValidationError: API Star's own, if the program sends what it did not declare; it says what that was.
        """
        given = dict(value) if isinstance(value, types.Type) else value
        try:
            return self._validate(given)
        except ValidationError as exc:
            kind = type(value).__name__
            exc.args = ('What is sent (%s) is not %s, as declared: %s' % (kind, self._name(), exc.detail),)
            raise

    def _name(self) -> str:
        choices = self.declared if isinstance(self.declared, (list, tuple)) else [self.declared]
        return ' or '.join(getattr(choice, '__name__', type(choice).__name__) for choice in choices)


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
            '%r is no message type: give a types.Type, a validator of apistar.validators, or a list of types.Types.'
            % (declared,)
        )
    validate: Callable[[Any], Any] = with_unique_items(declared).validate
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
    validating = {constant: with_unique_items(message_type) for constant, message_type in by_type.items()}

    def validate(value: Any) -> Any:
        return validating[envelope.validate(value)['type']].validate(value)

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


class Uniqueness(validators.Uniqueness):  # type: ignore[misc]
    """API Star's set of the items of an array, which fails on all but what JSON knows: here dates and types too.

    Items are the same if the validated values are equal, so two spellings of one moment are the same.
    """

    def make_hashable(self, element: Any) -> Any:
        """Return what stands for ``element`` in a set."""
        if isinstance(element, types.Type):
            element = {key: getattr(element, key) for key in element}
        if element is None or isinstance(element, (bool, int, float, str, list, dict)):
            return super().make_hashable(element)
        return element


class UniqueItem(validators.Validator):  # type: ignore[misc]
    """Validates an item of an array, and refuses one that was seen before.

    :param array: whose error it is.
    :param validator: what validates the item.
    :param seen: the items of the array so far.
    """

    def __init__(self, array: Any, validator: Any, seen: Uniqueness) -> None:
        self._array = array
        self._validator = validator
        self._seen = seen

    def validate(self, value: Any, definitions: Any = None, allow_coerce: bool = False) -> Any:
        """Return the validated item.

        :raises ValidationError: API Star's own, also where the item is not unique.
        """
        item = self._validator.validate(value, definitions=definitions, allow_coerce=allow_coerce)
        if item in self._seen:
            self._array.error('unique_items')
        self._seen.add(item)
        return item


class UniqueArray(validators.Validator):  # type: ignore[misc]
    """Stands for an array with ``unique_items``: API Star's own, but for the check of uniqueness.

    :param array: the array as it was declared.
    """

    def __init__(self, array: Any) -> None:
        # Its default, its definitions and its name in them are as declared.
        self.__dict__.update(vars(array))
        self._array = copy.copy(array)
        self._array.unique_items = False
        self._array.def_name = None

    def validate(self, value: Any, definitions: Any = None, allow_coerce: bool = False) -> Any:
        """Return the validated array.

        :raises ValidationError: API Star's own.
        """
        array, seen = copy.copy(self._array), Uniqueness()
        if not isinstance(array.items, list):
            array.items = UniqueItem(self._array, validators.Any() if array.items is None else array.items, seen)
        else:
            array.items = [UniqueItem(self._array, item, seen) for item in array.items]
            if array.additional_items is not False:
                # As API Star does, which takes no types.Type here.
                is_validator = isinstance(array.additional_items, validators.Validator)
                others = array.additional_items if is_validator else validators.Any()
                array.additional_items = UniqueItem(self._array, others, seen)
        return array.validate(value, definitions=self.get_definitions(definitions), allow_coerce=allow_coerce)


class TypeWithUniqueItems:
    """Stands for a ``types.Type`` that has arrays with ``unique_items``; makes instances of that very type.

    :param declared: the type.
    :param validator: what validates its properties instead of its own.
    """

    def __init__(self, declared: Any, validator: Any) -> None:
        self._declared = declared
        self._validator = validator
        self.has_default = declared.has_default

    def validate(self, value: Any, definitions: Any = None, allow_coerce: bool = False) -> Any:
        """Return the validated instance.

        :raises ValidationError: API Star's own.
        """
        instance = self._declared.__new__(self._declared)
        # Its __init__ asks the instance for the validator.
        object.__setattr__(instance, 'validator', self._validator)
        instance.__init__(value, definitions=definitions, allow_coerce=allow_coerce)
        object.__delattr__(instance, 'validator')
        return instance


def with_unique_items(validator: Any, known: Optional[Dict[int, Any]] = None) -> Any:
    """Return ``validator`` with the mended check of ``unique_items`` wherever it is in it; itself if it is nowhere.

    A type with a ``validate`` of its own stays as it is, and so does what a type holds of itself.

    :param validator: a validator or a type; what is neither is returned.
    :param known: what has been returned for others, by their ids.
    """
    known = {} if known is None else known
    if id(validator) not in known:
        known[id(validator)] = validator
        if is_message_type(validator):
            made = with_unique_items(validator.validator, known)
            is_plain = validator.validate.__func__ is types.Type.validate.__func__
            if made is not validator.validator and is_plain:
                known[id(validator)] = TypeWithUniqueItems(validator, made)
        elif isinstance(validator, validators.Validator):
            known[id(validator)] = mended_validator(validator, known)
    return known[id(validator)]


def is_failed_uniqueness(exc: AssertionError) -> bool:
    """Tell whether API Star could not compare items of an array that :func:`with_unique_items` has not reached."""
    *_, (frame, _) = traceback.walk_tb(exc.__traceback__)
    return frame.f_code is validators.Uniqueness.make_hashable.__code__


def mended_validator(validator: Any, known: Dict[int, Any]) -> Any:
    """Return ``validator`` with its parts mended, and itself where it is an array with ``unique_items``."""
    changed = {}
    for name in PARTS:
        part = vars(validator).get(name)
        if isinstance(part, dict):
            made: Any = {key: with_unique_items(value, known) for key, value in part.items()}
        elif isinstance(part, list):
            made = [with_unique_items(value, known) for value in part]
        else:
            made = with_unique_items(part, known)
        if made != part:
            changed[name] = made
    if changed:
        validator = copy.copy(validator)
        validator.__dict__.update(changed)
    return UniqueArray(validator) if getattr(validator, 'unique_items', False) else validator
