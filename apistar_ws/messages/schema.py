"""Declared message types: decode received messages, and encode sent ones."""

import collections.abc
import functools
import types as python_types
import typing
from typing import Any, Callable, Dict, List, Sequence, Tuple, Type, Union

from apistar import types, validators
from apistar.exceptions import ConfigurationError, ValidationError

from apistar_ws.exceptions import InvalidMessage
from apistar_ws.messages.codecs import JSONCodec
from apistar_ws.messages.compiler import Check, NotCompilable, Refused, compile_check
from apistar_ws.messages.validation import INVALID, bounded, checker, is_failed_uniqueness, is_message_type

MessageType = Union[Type[types.Type], validators.Validator, Sequence[Type[types.Type]]]

#: Cached schemas of types of single messages.
_MAX_SCHEMAS = 256
#: Annotations of lists.
_LIST_TYPES = (list, tuple, set, frozenset, collections.abc.Sequence)
_UNION_TYPES = (Union, getattr(python_types, 'UnionType', Union))


class Schema:
    """A declared message type: a ``types.Type``, a validator, or several types distinguished by ``type``.

    Made once per route, at decoration; :meth:`for_one` makes one for a single message.

    :param declared: the declaration.
    :param is_compiled: whether to compile it at the first message.
    :raises ConfigurationError: for any other declaration.
    """

    def __init__(self, declared: MessageType, is_compiled: bool = True) -> None:
        members = union_members(declared)
        declared = members if len(members) > 1 else declared
        self.declared = declared
        self._is_compiled = is_compiled
        self._validate = (
            _validator_by_type(declared) if isinstance(declared, (list, tuple)) else _validator_of(declared)
        )

    @classmethod
    def for_one(cls, declared: Any) -> 'Schema':
        """Return the schema for a single message. Types are cached; validators, which may be new each time, are not."""
        return _cached_schema(declared) if is_message_type(declared) else cls(declared, is_compiled=False)

    @functools.cached_property
    def _check_received(self) -> Check:
        return _compiled_check(self.declared, False) if self._is_compiled else _refuse_all

    @functools.cached_property
    def _check_sent(self) -> Check:
        return _compiled_check(self.declared, True) if self._is_compiled else _refuse_all

    def decode(self, data: Any) -> Any:
        """Return the validated instance for ``data``, a value of JSON.

        :raises InvalidMessage: with API Star's error detail for each field.
        """
        try:
            return self._check_received(data)
        except Exception:
            """It is not valid, or valid in a rare way."""
        return self._decode_slowly(data)

    def _decode_slowly(self, data: Any) -> Any:
        """Return the result of API Star's validators, or raise their error."""
        try:
            return self._validate(data)
        except ValidationError as exc:
            detail = bounded(exc.detail)
            raise InvalidMessage(detail, reason=_reason_for(detail)) from None
        except (ValueError, OverflowError, RecursionError):
            # API Star's validators raise these too: for a 45th of May, a number too large for a float, or deep nesting.
            raise InvalidMessage(INVALID) from None
        except AssertionError as exc:
            if not is_failed_uniqueness(exc):
                raise
            raise InvalidMessage(INVALID) from None

    def dumps(self, codec: JSONCodec, value: Any) -> str:
        """Validate ``value`` and return it as JSON text.

        :raises ValidationError: as :meth:`encode` does; the codec may raise other errors for values that are not JSON.
        """
        try:
            primitives = self._check_sent(value)
        except Exception:
            """It is not valid, or valid in a rare way."""
        else:
            return codec.dumps_primitives(primitives)
        return codec.dumps(self.encode(value))

    def encode(self, value: Any) -> Any:
        """Validate ``value`` and return it for the codec.

        :raises ValidationError: API Star's own, if the program sends a value that is not as declared.
        """
        try:
            return self._validate(dict(value) if isinstance(value, types.Type) else value)
        except ValidationError as exc:
            kind = type(value).__name__
            exc.args = ('The sent value (%s) is not %s, as declared: %s' % (kind, self._name(), bounded(exc.detail)),)
            raise

    def _name(self) -> str:
        choices = self.declared if isinstance(self.declared, (list, tuple)) else [self.declared]
        return ' or '.join(getattr(choice, '__name__', type(choice).__name__) for choice in choices)


@functools.lru_cache(maxsize=_MAX_SCHEMAS)
def _cached_schema(declared: Any) -> Schema:
    return Schema(declared)


def _compiled_check(declared: Any, is_sent: bool) -> Check:
    """Return the compiled function for a declaration, or one that refuses every value."""
    if isinstance(declared, (list, tuple)):
        return _compiled_check_by_type(declared, is_sent)
    try:
        return compile_check(declared, is_sent)
    except NotCompilable:
        return _refuse_all


def _compiled_check_by_type(declared: Sequence[Any], is_sent: bool) -> Check:
    checks = {constant: _compiled_check(kind, is_sent) for kind in declared for constant in _constant_types(kind)}

    def check(value: Any) -> Any:
        return checks[value['type']](value)

    return check


def _refuse_all(value: Any) -> Any:
    """Refuse every value, so that API Star's validators check it."""
    raise Refused


def _reason_for(detail: Any) -> str:
    """Return a close reason for an error detail: the sentence, or the names of the invalid fields."""
    if isinstance(detail, str):
        return detail
    return 'Invalid message: %s' % ', '.join(str(key) for key in detail)


def union_members(annotation: Any) -> List[Any]:
    """Return the types of a union without None; for any other annotation return the annotation."""
    members = typing.get_args(annotation) if typing.get_origin(annotation) in _UNION_TYPES else (annotation,)
    return [member for member in members if member is not type(None)]


def _validator_of(declared: Any) -> Callable[[Any], Any]:
    """Return the function that validates a value of a type or a validator."""
    if not is_message_type(declared) and not isinstance(declared, validators.Validator):
        raise ConfigurationError(
            '%r is not a message type: use a types.Type, a validator of apistar.validators, or a list of types.Types.%s'
            % (declared, _advice_for(declared))
        )
    return checker(declared)


def _advice_for(annotation: Any) -> str:
    """Return the correct declaration for an annotation of a list, such as ``List[Order]``, or an empty string."""
    items = typing.get_args(annotation)
    if typing.get_origin(annotation) not in _LIST_TYPES or not items:
        return ''
    name = items[0].__name__ if is_message_type(items[0]) else '...'
    return ' For a message that is a list write validators.Array(items=%s).' % name


def _validator_by_type(declared: Sequence[Any]) -> Callable[[Any], Any]:
    """Return the function that validates a value of several types, chosen by their constant ``type`` property."""
    by_type: Dict[str, Any] = {}
    for message_type in declared:
        for constant in _constant_types(message_type):
            if constant in by_type:
                raise ConfigurationError(
                    'The message types %s and %s have the same constant type %r.'
                    % (by_type[constant].__name__, message_type.__name__, constant)
                )
            by_type[constant] = message_type
    envelope = validators.Object(properties=[('type', validators.String(enum=list(by_type)))], required=['type'])
    checks = {constant: checker(message_type) for constant, message_type in by_type.items()}

    def validate(value: Any) -> Any:
        return checks[envelope.validate(value)['type']](value)

    return validate


def _constant_types(message_type: Any) -> Tuple[str, ...]:
    """Return the constant value of the ``type`` property, in a tuple."""
    if is_message_type(message_type):
        validator = message_type.validator.properties.get('type')
        enum = getattr(validator, 'enum', None)
        if enum is not None and len(enum) == 1:
            return (enum[0],)
    raise ConfigurationError(
        'In a list of message types each needs a constant type property, '
        "type = validators.String(enum=['...']); %r has none." % (message_type,)
    )
