"""Examples of messages, made from what a route declares, and valid by it."""

import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from apistar import validators
from apistar.exceptions import ValidationError

from apistar_ws.asyncapi.jsonschema import is_json, jsonable
from apistar_ws.messages.codecs import primitive
from apistar_ws.messages.validation import is_message_type

try:
    from re import _parser as parser  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover
    # Before Python 3.11.
    import sre_parse as parser

#: How deep types that hold themselves are followed.
DEEPEST = 6
TEXT = 'text'
MOMENTS = {'date': '2026-01-31', 'time': '12:30:00', 'datetime': '2026-01-31T12:30:00Z'}
#: Texts for formats that API Star does not check, and people expect.
FORMAT_EXAMPLES = {
    'email': 'ann@example.com',
    'uri': 'https://example.com/',
    'uuid': '00000000-0000-4000-8000-000000000000',
}
#: What an escape such as \\d may stand for.
CATEGORIES = {'CATEGORY_DIGIT': '0', 'CATEGORY_WORD': 'a', 'CATEGORY_SPACE': ' ', 'CATEGORY_NOT_DIGIT': 'a',
              'CATEGORY_NOT_WORD': '-', 'CATEGORY_NOT_SPACE': 'a'}  # fmt: skip
#: Characters that an example may have where a pattern excludes some.
ALPHABET = 'abcxyzABCXYZ0123456789 -_.,:;!?@#$%&*()[]{}<>/\\|\'"+=~^`\t\n'


class NoExample(Exception):
    """Raised where no example is found; there may be one all the same."""


def example_of(declared: Any) -> Any:
    """Return a value of JSON that ``declared``, a ``types.Type`` or a validator, accepts.

    :raises NoExample: if none is found.
    """
    try:
        value = make(declared, {}, 0)
        declared.validate(value)
    except (ValidationError, ValueError, OverflowError, AssertionError, RecursionError, KeyError, re.error) as exc:
        raise NoExample(str(exc)) from None
    if not is_json(value):
        raise NoExample('%r is not JSON.' % (value,))
    return jsonable(value)


def make(declared: Any, definitions: Mapping[str, Any], depth: int) -> Any:
    """Return a value that should do.

    :raises NoExample: if none is found.
    """
    if depth > DEEPEST:
        raise NoExample('It holds itself without end.')
    if is_message_type(declared):
        return make_object(declared.validator, {**definitions, declared.__name__: declared}, depth)
    if declared.has_default() and declared.default is not None:
        return primitive(declared.default)
    known = {**definitions, **(declared.definitions or {})}
    if declared.def_name:
        known[declared.def_name] = declared
    for kind, makes in KINDS:
        if isinstance(declared, kind):
            return makes(declared, known, depth)
    return {}


def make_string(validator: validators.String, definitions: Mapping[str, Any], depth: int) -> str:
    """Return a text."""
    if validator.enum:
        return str(validator.enum[0])
    text = MOMENTS.get(validator.format) or FORMAT_EXAMPLES.get(validator.format, TEXT)
    if validator.pattern is not None:
        text = matching(validator.pattern, validator.min_length or 0)
    elif len(text) < (validator.min_length or 0):
        text = (text * validator.min_length)[: validator.min_length]
    longest = len(text) if validator.max_length is None else validator.max_length
    return text[:longest]


def make_number(validator: validators.NumericType, definitions: Mapping[str, Any], depth: int) -> Any:
    """Return a number: the first of those near the limits that will do."""
    low, high = validator.minimum, validator.maximum
    step = validator.multiple_of or 1
    near = [1, 0, low, high]
    if low is not None:
        first = -(-low // step) * step
        near += [low + 1, low + 0.5, first, first + step, (low + (low + 1 if high is None else high)) / 2]
    if high is not None:
        near += [high - 1, high - 0.5, high // step * step, high // step * step - step]
    near += [step, -step]
    for number in near:
        if number is not None and accepts(validator, number):
            return int(number) if validator.numeric_type is int else number
    raise NoExample('No number is found.')


def accepts(validator: Any, value: Any) -> bool:
    """Return whether ``validator`` accepts ``value``."""
    try:
        validator.validate(value)
    except ValidationError:
        return False
    return True


def make_boolean(validator: validators.Boolean, definitions: Mapping[str, Any], depth: int) -> bool:
    """Return a truth value."""
    return True


def make_object(validator: validators.Object, definitions: Mapping[str, Any], depth: int) -> Dict[str, Any]:
    """Return an object, with all properties for which there is an example."""
    made: Dict[str, Any] = {}
    for name, part in validator.properties.items():
        try:
            made[name] = make(part, definitions, depth + 1)
        except NoExample:
            if name in validator.required:
                raise
    more = validator.additional_properties
    missing = [name for name in validator.required if name not in made]
    number = 0
    while missing or len(made) < (validator.min_properties or 0):
        number += 1
        name = missing.pop() if missing else 'name%d' % number
        made[name] = make(more, definitions, depth + 1) if hasattr(more, 'validate') else TEXT
    if validator.max_properties is not None:
        for name in [name for name in made if name not in validator.required][::-1]:
            if len(made) > validator.max_properties:
                del made[name]
    return made


def make_array(validator: validators.Array, definitions: Mapping[str, Any], depth: int) -> List[Any]:
    """Return an array, with one item where it may have one."""
    items = validator.items
    if isinstance(items, list):
        made = [make(item, definitions, depth + 1) for item in items[: validator.max_items]]
        filler = validator.additional_items
    else:
        made, filler = [], items
    least = max(validator.min_items or 0, 0 if validator.max_items == 0 or isinstance(items, list) else 1)
    while len(made) < least:
        try:
            part = make(filler, definitions, depth + 1) if hasattr(filler, 'validate') else len(made)
        except NoExample:
            if len(made) >= (validator.min_items or 0):
                break
            raise
        made.append(distinct(part, len(made), filler) if validator.unique_items else part)
    return made


def distinct(value: Any, number: int, validator: Any) -> Any:
    """Return ``value`` made another one, where it is a text or a number."""
    enum = getattr(validator, 'enum', None)
    if enum:
        return enum[number % len(enum)]
    if isinstance(value, str):
        return value if number == 0 else value[: -len(str(number))] + str(number) if len(value) > 2 else str(number)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value + number * (getattr(validator, 'multiple_of', None) or 1)
    if isinstance(value, bool):
        return number % 2 == 0
    return value


def make_union(validator: validators.Union, definitions: Mapping[str, Any], depth: int) -> Any:
    """Return an example of the first that has one."""
    for item in validator.items:
        try:
            return make(item, definitions, depth + 1)
        except NoExample:
            continue
    raise NoExample('None of them has one.')


def make_ref(validator: validators.Ref, definitions: Mapping[str, Any], depth: int) -> Any:
    """Return an example of what is referred to."""
    return make(definitions[validator.ref], definitions, depth + 1)


KINDS: List[Tuple[Any, Callable[[Any, Mapping[str, Any], int], Any]]] = [
    (validators.String, make_string),
    (validators.NumericType, make_number),
    (validators.Boolean, make_boolean),
    (validators.Object, make_object),
    (validators.Array, make_array),
    (validators.Union, make_union),
    (validators.Ref, make_ref),
]


def matching(pattern: str, least: int) -> str:
    """Return a text that matches a regular expression, of ``least`` characters if it may have so many.

    :raises NoExample: for what it cannot follow.
    """
    for times in (1, max(least, 1)):
        text = ''.join(followed(parser.parse(pattern), times))
        if len(text) >= least and re.search(pattern, text):
            return text
    if re.search(pattern, text) and not pattern.endswith('$'):
        return text.ljust(least, 'a')
    raise NoExample('No text is found for /%s/.' % pattern)


def followed(parsed: Any, times: int) -> List[str]:
    """Return texts for the parts of a parsed expression, each repeated part ``times`` where it may."""
    texts: List[str] = []
    for kind, value in parsed:
        name = str(kind)
        if name == 'LITERAL':
            texts.append(chr(value))
        elif name == 'NOT_LITERAL':
            texts.append(next(character for character in ALPHABET if ord(character) != value))
        elif name == 'ANY':
            texts.append('a')
        elif name == 'IN':
            texts.append(one_of(value))
        elif name == 'BRANCH':
            texts += followed(value[1][0], times)
        elif name == 'SUBPATTERN':
            texts += followed(value[-1], times)
        elif name in ('MAX_REPEAT', 'MIN_REPEAT', 'POSSESSIVE_REPEAT'):
            count = min(max(times, value[0]), value[1])
            texts += [text for _ in range(count) for text in followed(value[2], times)]
        elif name not in ('AT', 'ASSERT', 'ASSERT_NOT'):
            raise NoExample('An expression has %s.' % name)
    return texts


def one_of(members: Any) -> str:
    """Return a character of a set."""
    negated = str(members[0][0]) == 'NEGATE'
    if not negated:
        return of_member(*members[0])
    inside = [member for member in members[1:]]
    allowed: Optional[str] = next((c for c in ALPHABET if not any(is_in(c, *member) for member in inside)), None)
    if allowed is None:
        raise NoExample('A set leaves no character.')
    return allowed


def of_member(kind: Any, value: Any) -> str:
    """Return a character of one member of a set: a character, a range, a class."""
    if str(kind) == 'CATEGORY':
        return CATEGORIES[str(value)]
    return chr(value if str(kind) == 'LITERAL' else value[0])


def is_in(character: str, kind: Any, value: Any) -> bool:
    """Return whether a character is in one member of a set."""
    if str(kind) == 'CATEGORY':
        escape = {'DIGIT': r'\d', 'WORD': r'\w', 'SPACE': r'\s'}[str(value).rpartition('_')[2]]
        return bool(re.match(escape, character)) is not ('NOT' in str(value))
    if str(kind) == 'LITERAL':
        return bool(ord(character) == value)
    return bool(value[0] <= ord(character) <= value[1])
