"""Validate messages with API Star's results and errors, in time linear in their size.

API Star's own functions are not linear: an ``Object`` with ``pattern_properties`` builds a set of all keys for each
key, ``unique_items`` relies on hashes that a client can choose, and a union of objects that refer to each other checks
the same value again and again. :class:`Validation` makes the same checks in linear time. API Star is not patched.
"""

import datetime
import functools
import itertools
import re
import traceback
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from apistar import types, validators
from apistar.exceptions import ValidationError

#: Attributes of validators that contain other validators.
_ATTRIBUTES = ('items', 'additional_items', 'properties', 'pattern_properties', 'additional_properties', 'definitions')
#: Immutable types of values of JSON.
SCALARS = (str, int, float, bool, type(None))
#: Validators of single values.
_SIMPLE = frozenset(
    (
        validators.String, validators.Date, validators.Time, validators.DateTime, validators.Integer,
        validators.Number, validators.Boolean, validators.Any,
    )
)  # fmt: skip
#: Limits of an error detail: entries, and characters of all keys and sentences.
MAX_ERRORS = 100
MAX_CHARACTERS = 2**14
#: Classes in each cache.
_CACHE_SIZE = 256
#: The error for a value with which API Star fails, or whose error is too long.
INVALID = 'Must be a valid value.'
_EPOCH = datetime.datetime.min

_Definitions = Optional[Dict[str, Any]]
_Method = Callable[['Validation', Any, Any, _Definitions, bool], Any]


def is_message_type(declared: Any) -> bool:
    """Return whether ``declared`` is a subclass of API Star's ``types.Type``."""
    return isinstance(declared, type) and issubclass(declared, types.Type)


def reachable(declared: Any) -> Iterator[Any]:
    """Yield a type or a validator, and all those that it contains, each once."""
    seen: Set[int] = set()
    pending = [declared]
    while pending:
        held = pending.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        yield held
        validator = held.validator if is_message_type(held) else held
        for name in _ATTRIBUTES if isinstance(validator, validators.Validator) else ():
            part = vars(validator).get(name)
            parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else [part]
            pending += [child for child in parts if hasattr(child, 'validate')]


def checker(declared: Any) -> Callable[[Any], Any]:
    """Return the function that validates a message by a type or a validator."""
    if _method_of(declared) is None:
        validate: Callable[[Any], Any] = declared.validate
        return validate
    return lambda value: Validation().check(declared, value)


class Validation:
    """The validation of one message.

    Inside validators that may check a value more than once, results and errors are cached by validator and value.

    :param depth: the number of such validators around the value.
    """

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._cache: Dict[Any, Tuple[Any, Any, Any, _Definitions]] = {}
        self._identities: Optional[Identities] = None

    def check(self, validator: Any, value: Any, definitions: _Definitions = None, allow_coerce: bool = False) -> Any:
        """Return the result of API Star's ``validator.validate``.

        :raises ValidationError: API Star's own.
        """
        if type(validator) in _SIMPLE:
            return validator.validate(value, definitions=definitions, allow_coerce=allow_coerce)
        if isinstance(validator, validators.Ref):
            validator = _resolved(validator, definitions)
        method = _method_of(validator)
        if method is None:
            return validator.validate(value, definitions=definitions, allow_coerce=allow_coerce)
        if not self._depth or type(value) in SCALARS:
            return method(self, validator, value, definitions, allow_coerce)
        key = (id(validator), id(value), allow_coerce, _state_of(definitions))
        if key in self._cache:
            return self._cached(key, definitions)
        try:
            made = method(self, validator, value, definitions, allow_coerce)
        except ValidationError as exc:
            self._store(key, value, None, exc.detail, definitions)
            raise
        self._store(key, value, made, None, definitions)
        return made

    def _store(self, key: Any, value: Any, made: Any, detail: Any, definitions: _Definitions) -> None:
        defined = dict(definitions or {}) if _state_of(definitions) != key[-1] else None
        # The value is kept, since its id would be reused.
        self._cache[key] = (value, made, detail, defined)

    def _cached(self, key: Any, definitions: _Definitions) -> Any:
        """Return the cached result, or raise the cached error."""
        _, made, detail, defined = self._cache[key]
        if definitions is not None:
            definitions.update(defined or {})
        if detail is not None:
            raise ValidationError(detail)
        return made

    def _leave(self, depth: int) -> None:
        """Restore the depth, and clear the cache if no value can be checked again."""
        self._depth = depth
        if not depth and self._cache:
            self._cache.clear()

    def _object(self, validator: Any, value: Any, definitions: _Definitions, allow_coerce: bool) -> Any:
        if value is None and validator.allow_null:
            return None
        _require_object(validator, value)
        definitions = validator.get_definitions(definitions)
        validated: Dict[Any, Any] = {}
        errors = {key: validator.error_message('invalid_key') for key in value.keys() if not isinstance(key, str)}
        _require_properties(validator, value, errors)
        depth = self._depth
        # Several patterns may match one key.
        self._depth += bool(validator.pattern_properties)
        for key, child in _children_of(validator, value, validated, errors):
            try:
                validated[key] = self.check(child, value[key], definitions, allow_coerce)
            except ValidationError as exc:
                errors[key] = exc.detail
        self._leave(depth)
        if errors:
            raise ValidationError(errors)
        return validated

    def _array(self, validator: Any, value: Any, definitions: _Definitions, allow_coerce: bool) -> Any:
        if value is None and validator.allow_null:
            return None
        _require_array(validator, value)
        definitions = validator.get_definitions(definitions)
        validated = []
        errors: Dict[int, Any] = {}
        seen: Set[int] = set()
        for position, (item, child) in enumerate(zip(value, _item_validators(validator))):
            try:
                if child is not None:
                    item = self.check(child, item, definitions, allow_coerce)
                if validator.unique_items:
                    self._require_unique(validator, item, seen)
                validated.append(item)
            except ValidationError as exc:
                if len(errors) < MAX_ERRORS:
                    errors[position] = exc.detail
        if errors:
            raise ValidationError(errors)
        return validated

    def _require_unique(self, validator: Any, item: Any, seen: Set[int]) -> None:
        if self._identities is None:
            self._identities = Identities()
        identity = self._identities.of(item)
        if identity in seen:
            validator.error('unique_items')
        seen.add(identity)

    def _union(self, validator: Any, value: Any, definitions: _Definitions, allow_coerce: bool) -> Any:
        if value is None:
            return None if validator.allow_null else validator.error('null')
        depth = self._depth
        self._depth += 1
        for item in validator.items:
            try:
                made = self.check(item, value, definitions, allow_coerce)
            except ValidationError:
                """The next item may accept it."""
            else:
                self._leave(depth)
                return made
        self._leave(depth)
        return validator.error('union')

    def _type(self, declared: Any, value: Any, definitions: _Definitions, allow_coerce: bool) -> Any:
        instance = declared.__new__(declared, value, definitions=definitions, allow_coerce=allow_coerce)
        if not isinstance(instance, declared):
            return instance
        if declared.__init__ is types.Type.__init__ and _is_inherited(declared.validator, validators.Object):
            validated = self._object(declared.validator, _fields_of(declared, value), None, False)
            object.__setattr__(instance, '_dict', validated)
            return instance
        # Its __init__ reads the validator from the instance.
        object.__setattr__(instance, 'validator', _proxy_of(declared.validator, self))
        instance.__init__(value, definitions=definitions, allow_coerce=allow_coerce)
        object.__delattr__(instance, 'validator')
        return instance

    def _overridden(self, validator: Any, value: Any, definitions: _Definitions, allow_coerce: bool) -> Any:
        return _proxy_of(validator, self).validate(value, definitions=definitions, allow_coerce=allow_coerce)


#: The methods for validators that contain others.
_METHODS: Dict[Any, _Method] = {
    validators.Object: Validation._object,
    validators.Array: Validation._array,
    validators.Union: Validation._union,
}


def _method_of(validator: Any) -> Optional[_Method]:
    """Return the method for a validator or a type, or None to call its own ``validate``."""
    if isinstance(validator, type):
        return _method_of_type(validator)
    for base, method in _METHODS.items():
        if isinstance(validator, base):
            return method if _is_inherited(validator, base) else Validation._overridden
    return None


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _method_of_type(declared: Any) -> Optional[_Method]:
    """Return the method for a class: a type, or another class with a ``validate`` method."""
    if not is_message_type(declared) or type(declared).__call__ is not type.__call__:
        return None
    own = getattr(declared.validate, '__func__', None)
    return Validation._type if own is types.Type.validate.__func__ else None


def _is_inherited(validator: Any, base: Any) -> bool:
    """Return whether a validator does not override the ``validate`` of API Star's ``base``."""
    return type(validator).validate is base.validate and 'validate' not in vars(validator)


def _fields_of(declared: Any, value: Any) -> Any:
    """Return the fields of the instance that a type's ``__init__`` makes."""
    if isinstance(value, dict):
        return value
    if value is None or isinstance(value, (bool, int, float, str, list)):
        raise ValidationError('Must be an object.')
    return {key: getattr(value, key) for key in declared.validator.properties.keys()}


def _resolved(validator: Any, definitions: _Definitions) -> Any:
    """Return the target of a reference, or the reference itself if there is none, which API Star reports."""
    for _ in definitions or ():
        if not isinstance(validator, validators.Ref) or not _is_inherited(validator, validators.Ref):
            break
        validator = (definitions or {}).get(validator.ref, validator)
    return validator


def _state_of(definitions: _Definitions) -> Tuple[Any, ...]:
    """Return the current targets of all references; API Star adds some during validation."""
    return tuple([(name, id(validator)) for name, validator in definitions.items()]) if definitions else ()


def _require_object(validator: Any, value: Any) -> None:
    if value is None:
        validator.error('null')
    if not isinstance(value, (dict, Mapping)):
        validator.error('type')


def _require_properties(validator: Any, value: Any, errors: Dict[Any, Any]) -> None:
    """Check the number of properties, and add errors for missing ones."""
    _check_size(validator, len(value), 'properties')
    for key in validator.required:
        if key not in value:
            errors[key] = validator.error_message('required', field_name=key)


def _check_size(validator: Any, size: int, parts: str) -> None:
    """Check the number of properties or items."""
    least, most = getattr(validator, 'min_' + parts), getattr(validator, 'max_' + parts)
    if least is not None and size < least:
        validator.error('empty' if least == 1 else 'min_' + parts)
    if most is not None and size > most:
        validator.error('max_' + parts)


def _children_of(
    validator: Any, value: Any, validated: Dict[Any, Any], errors: Dict[Any, Any]
) -> Iterator[Tuple[Any, Any]]:
    """Yield the keys whose values must be checked, with their validators, in API Star's order.

    :param validated: the results by key; those that need no check are added here.
    :param errors: the errors by key; those for properties that are not allowed are added here.
    """
    for key, child in validator.properties.items():
        if key in value:
            yield key, child
        elif child.has_default():
            validated[key] = child.default
    for key in list(value.keys()) if validator.pattern_properties else ():
        for pattern, child in validator.pattern_properties.items():
            if isinstance(key, str) and re.search(pattern, key):
                yield key, child
    others = validator.additional_properties
    remaining = [key for key in value.keys() if key not in validated and key not in errors]
    if others is True:
        validated.update((key, value[key]) for key in remaining)
    elif others is False:
        errors.update((key, validator.error_message('invalid_property')) for key in remaining)
    elif others is not None:
        yield from ((key, others) for key in remaining)


def _require_array(validator: Any, value: Any) -> None:
    if value is None:
        validator.error('null')
    if not isinstance(value, list):
        validator.error('type')
    if validator.min_items is not None and validator.min_items == validator.max_items != len(value):
        validator.error('exact_items')
    _check_size(validator, len(value), 'items')
    is_closed = isinstance(validator.items, list) and validator.additional_items is False
    if is_closed and len(value) > len(validator.items):
        validator.error('additional_items')


def _item_validators(validator: Any) -> Iterator[Any]:
    """Return an iterator over the validators of the items of an array, None for items that need no check."""
    if not isinstance(validator.items, list):
        return itertools.repeat(validator.items)
    # API Star ignores a types.Type here.
    others = validator.additional_items if isinstance(validator.additional_items, validators.Validator) else None
    return itertools.chain(validator.items, itertools.repeat(others))


class _Proxy:
    """A proxy for a validator that overrides ``validate``, or for the validator of a type, during one message.

    It shares the attributes of the validator. Calls of ``super().validate`` in the validator's class end here.
    """

    __slots__ = ()
    #: Set by ``_PROXY_CLASSES`` and ``_proxy_of``.
    method: _Method
    declared: Any
    validation: Validation

    def validate(self, value: Any, definitions: _Definitions = None, allow_coerce: bool = False) -> Any:
        """Return the validated value."""
        return type(self).method(self.validation, self, value, definitions, allow_coerce)

    def get_definitions(self, definitions: _Definitions = None) -> Any:
        """Return the definitions, which contain the declared validator instead of this one."""
        return validators.Validator.get_definitions(self.declared, definitions)


_PROXY_CLASSES = {
    base: type('Proxy%s' % base.__name__, (_Proxy, base), {'__slots__': ('declared', 'validation'), 'method': method})
    for base, method in _METHODS.items()
}


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _proxy_class(kind: Any) -> Any:
    """Return the class of proxies for a class of validators, or None if none can be made."""
    base = next((base for base in _METHODS if issubclass(kind, base)), None)
    if kind is base or base is None:
        return _PROXY_CLASSES.get(kind)
    try:
        return type(kind.__name__, (kind, _PROXY_CLASSES[base]), {})
    except Exception:
        # It has slots, or cannot be subclassed.
        return None


def _proxy_of(validator: Any, validation: Validation) -> Any:
    """Return a proxy for ``validator``, or the validator itself if none can be made."""
    kind: Any = type(validator)
    kind = _proxy_class(kind)
    if kind is None:
        return validator
    made = object.__new__(kind)
    object.__setattr__(made, '__dict__', vars(validator))
    object.__setattr__(made, 'declared', validator)
    object.__setattr__(made, 'validation', validation)
    return made


class Identities:
    """Numbers that identify values: equal for values that API Star considers equal.

    Only text is hashed, with Python's secret seed, so that a client cannot choose values with the same hash.
    """

    def __init__(self) -> None:
        self._numbers: Dict[str, int] = {}
        #: The numbers of values that are not JSON.
        self._others: Dict[Any, int] = {}
        #: Lists, objects and instances with their numbers, by id; they are kept, since their ids would be reused.
        self._known: Dict[int, Tuple[Any, int]] = {}

    def of(self, value: Any) -> int:
        """Return the number of ``value``."""
        if isinstance(value, (list, dict, types.Type)):
            return self._of_container(value)
        text = _text_of(value)
        number = len(self._numbers) + len(self._others)
        return self._others.setdefault(value, number) if text is None else self._numbers.setdefault(text, number)

    def _of_container(self, value: Any) -> int:
        known = self._known.get(id(value))
        if known is not None:
            return known[1]
        if isinstance(value, list):
            text = '[%s]' % ','.join([str(self.of(item)) for item in value])
        else:
            items = [(key, getattr(value, key)) for key in value] if isinstance(value, types.Type) else value.items()
            text = '{%s}' % ','.join(['%d:%d' % (self.of(key), self.of(item)) for key, item in items])
        number = self._numbers.setdefault(text, len(self._numbers) + len(self._others))
        self._known[id(value)] = (value, number)
        return number


def _text_of(value: Any) -> Optional[str]:
    """Return the same text for equal values, or None for a value that can be hashed directly."""
    if value is True or value is False:
        return str(value)
    # NaN is not equal to itself.
    if isinstance(value, (int, float)) and value == value:
        return _text_of_number(value)
    if type(value) is datetime.datetime and type(value.tzinfo) is datetime.timezone:
        return '@%s' % (value.replace(tzinfo=None) - _EPOCH - (value.utcoffset() or datetime.timedelta()))
    return None


def _text_of_number(value: Any) -> str:
    try:
        as_float = float(value)
    except OverflowError:
        return hex(value)
    # -0.0 becomes 0.0.
    return repr(as_float + 0.0) if as_float == value else hex(value)


def is_failed_uniqueness(exc: AssertionError) -> bool:
    """Return whether API Star failed to compare items of an array, in a ``validate`` that is not replaced."""
    *_, (frame, _) = traceback.walk_tb(exc.__traceback__)
    return frame.f_code is validators.Uniqueness.make_hashable.__code__


def bounded(detail: Any) -> Any:
    """Return the first entries of an error detail, within the limits."""
    return _first_entries(detail, [MAX_ERRORS, MAX_CHARACTERS]) or INVALID


def _first_entries(detail: Any, left: List[int]) -> Any:
    """Return the first entries of ``detail``, and subtract their numbers of entries and characters from ``left``."""
    if not isinstance(detail, dict):
        length = len(detail) if isinstance(detail, str) else 0
        left[:] = left[0] - 1, left[1] - length
        return detail if length <= MAX_CHARACTERS else detail[:MAX_CHARACTERS]
    made = {}
    for key, part in detail.items():
        left[1] -= len(key) if isinstance(key, str) else 0
        if left[0] <= 0 or left[1] < 0:
            break
        entries = _first_entries(part, left)
        if entries != {}:
            made[key] = entries
    return made
