"""Examples of messages, made from declared types."""

import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

from apistar import validators
from apistar.exceptions import ValidationError

from apistar_ws.asyncapi.jsonschema import is_json, jsonable
from apistar_ws.messages.codecs import primitive
from apistar_ws.messages.validation import is_message_type

#: Levels of nesting after which a type that contains itself has no example.
_MAX_DEPTH = 6
_TEXT = 'text'
#: Stands for a text that has to match a pattern; the user of the page replaces it.
_PLACEHOLDER = '<matches %s>'
#: Texts for the formats of API Star, and for those that it does not check.
_FORMAT_EXAMPLES = {
    'date': '2026-01-31',
    'time': '12:30:00',
    'datetime': '2026-01-31T12:30:00Z',
    'email': 'ann@example.com',
    'uri': 'https://example.com/',
    'uuid': '00000000-0000-4000-8000-000000000000',
}
#: Raised by validators of API Star for values, patterns and references that they cannot check.
_ERRORS = (ValidationError, ValueError, OverflowError, AssertionError, RecursionError, KeyError, re.error)


class NoExample(Exception):
    """Raised if no example is found; there may be a valid value nevertheless."""


class Example(NamedTuple):
    """A value of JSON, and whether its validator accepts it."""

    value: Any
    is_valid: bool


def example_of(declared: Any) -> Example:
    """Return an example for ``declared``, a ``types.Type`` or a validator.

    It is not valid if it contains a placeholder: a text that has to match a regular expression is not made up.

    :raises NoExample: if none is found.
    """
    try:
        value = _make(declared, {}, 0)
    except _ERRORS as exc:
        raise NoExample(str(exc)) from None
    if not is_json(value):
        raise NoExample('%r is not JSON.' % (value,))
    return Example(jsonable(value), _is_valid(declared, value))


def _is_valid(validator: Any, value: Any) -> bool:
    try:
        validator.validate(value)
    except _ERRORS:
        return False
    return True


def _make(declared: Any, definitions: Mapping[str, Any], depth: int) -> Any:
    """Return an example that is probably valid.

    :raises NoExample: if none is found.
    """
    if depth > _MAX_DEPTH:
        raise NoExample('It contains itself at every level.')
    if is_message_type(declared):
        return _make_object(declared.validator, {**definitions, declared.__name__: declared}, depth)
    if declared.has_default() and declared.default is not None:
        return primitive(declared.default)
    known = {**definitions, **(declared.definitions or {})}
    if declared.def_name:
        known[declared.def_name] = declared
    make = next((make for kind, make in _MAKERS if isinstance(declared, kind)), None)
    return {} if make is None else make(declared, known, depth)


def _make_string(validator: validators.String, definitions: Mapping[str, Any], depth: int) -> Any:
    if validator.enum:
        return str(validator.enum[0])
    text = _FORMAT_EXAMPLES.get(validator.format, _TEXT).ljust(validator.min_length or 0, 'x')[: validator.max_length]
    if validator.pattern is None or re.search(validator.pattern, text):
        return text
    return _PLACEHOLDER % validator.pattern


def _make_number(validator: validators.NumericType, definitions: Mapping[str, Any], depth: int) -> Any:
    step = validator.multiple_of or 1
    low, high = validator.minimum, validator.maximum
    if low is None:
        low = -step if high is None else high - 2 * step
    if high is None:
        high = low + 2 * step
    first = -(-low // step) * step
    for number in (1, 0, validator.minimum, validator.maximum, first, first + step, (low + high) / 2):
        if number is not None and _is_valid(validator, number):
            return int(number) if validator.numeric_type is int else number
    raise NoExample('No number is found.')


def _make_boolean(validator: validators.Boolean, definitions: Mapping[str, Any], depth: int) -> bool:
    return True


def _make_object(validator: validators.Object, definitions: Mapping[str, Any], depth: int) -> Dict[str, Any]:
    """Return an object with all properties that have an example."""
    made: Dict[str, Any] = {}
    for name, part in validator.properties.items():
        try:
            made[name] = _make(part, definitions, depth + 1)
        except NoExample:
            if name in validator.required:
                raise
    others = validator.additional_properties
    missing = [name for name in validator.required if name not in made]
    missing += [
        'name%d' % number for number in range(1, 1 + (validator.min_properties or 0) - len(made) - len(missing))
    ]
    for name in missing:
        made[name] = _make(others, definitions, depth + 1) if hasattr(others, 'validate') else _TEXT
    optional = [name for name in made if name not in validator.required]
    while optional and validator.max_properties is not None and len(made) > validator.max_properties:
        del made[optional.pop()]
    return made


def _make_array(validator: validators.Array, definitions: Mapping[str, Any], depth: int) -> List[Any]:
    """Return an array of the least length, but with one item where one is allowed and has an example."""
    made, items = [], validator.items
    if isinstance(items, list):
        made = [_make(item, definitions, depth + 1) for item in items[: validator.max_items]]
        items = validator.additional_items
    least = validator.min_items or 0
    wanted = least if isinstance(validator.items, list) or validator.max_items == 0 else max(least, 1)
    while len(made) < wanted:
        try:
            item = _make(items, definitions, depth + 1) if hasattr(items, 'validate') else len(made)
        except NoExample:
            if len(made) >= least:
                break
            raise
        made.append(_distinct(item, len(made), items) if validator.unique_items else item)
    return made


def _distinct(value: Any, number: int, validator: Any) -> Any:
    """Return ``value`` changed by a number, if it is text, a number or a boolean."""
    enum = getattr(validator, 'enum', None)
    if enum:
        return enum[number % len(enum)]
    if isinstance(value, bool):
        return number % 2 == 0
    if isinstance(value, (int, float)):
        return value + number * (getattr(validator, 'multiple_of', None) or 1)
    if isinstance(value, str) and number:
        return value[: -len(str(number))] + str(number)
    return value


def _make_union(validator: validators.Union, definitions: Mapping[str, Any], depth: int) -> Any:
    """Return an example of the first item that has one."""
    for item in validator.items:
        try:
            return _make(item, definitions, depth + 1)
        except NoExample:
            continue
    raise NoExample('None of its items has an example.')


def _make_ref(validator: validators.Ref, definitions: Mapping[str, Any], depth: int) -> Any:
    return _make(definitions[validator.ref], definitions, depth + 1)


_MAKERS: List[Tuple[Any, Callable[[Any, Mapping[str, Any], int], Any]]] = [
    (validators.String, _make_string),
    (validators.NumericType, _make_number),
    (validators.Boolean, _make_boolean),
    (validators.Object, _make_object),
    (validators.Array, _make_array),
    (validators.Union, _make_union),
    (validators.Ref, _make_ref),
]
