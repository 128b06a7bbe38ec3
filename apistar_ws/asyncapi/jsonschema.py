"""The validators and types of API Star as JSON Schema (Draft 7), for others to read."""

import json
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from apistar import validators

from apistar_ws.messages.codecs import primitive
from apistar_ws.messages.validation import is_message_type

#: Where the schemas of types are.
REFERENCE_PREFIX = '#/components/schemas/'
NAME_IS_FREE = re.compile(r'[^\w.-]')
#: What Python's regular expressions have and those of JSON Schema (ECMA-262) have not.
PYTHON_ONLY = re.compile(r'\(\?P|\(\?[aiLmsux]+[):-]|\(\?\(|\(\?#|\(\?>|\\[AZ]|[*+?}]\+')
#: API Star's time has no zone, so it is not the ``time`` of JSON Schema, nor need its date-time have one.
JSON_FORMATS = {'datetime': 'date-time', 'time': 'partial-time'}

JSON = Dict[str, Any]
#: Validators that take no null unless they say so.
NEVER_NULL = (validators.String, validators.NumericType, validators.Boolean, validators.Object, validators.Array)


class Schemas:
    """Makes JSON Schemas, and collects those of types, which may refer to each other and to themselves."""

    def __init__(self) -> None:
        #: The schemas of types, by name.
        self.components: Dict[str, JSON] = {}
        self._names: Dict[Any, str] = {}

    def of(self, declared: Any, definitions: Optional[Mapping[str, Any]] = None) -> JSON:
        """Return the schema of a ``types.Type`` or a validator.

        :param definitions: what an API Star ``Ref`` in it may name.
        """
        if is_message_type(declared):
            return self._reference(declared, declared.__name__, declared.validator, definitions or {})
        known = {**(definitions or {}), **(getattr(declared, 'definitions', None) or {})}
        if declared.def_name:
            known[declared.def_name] = declared
            return self._reference(declared, declared.def_name, declared, known)
        return self._inline(declared, known)

    def _reference(self, declared: Any, name: str, validator: Any, definitions: Mapping[str, Any]) -> JSON:
        """Return a reference to the schema of what has a name; it is made once, since it may hold itself."""
        if declared not in self._names:
            self._names[declared] = free_name(name, self.components)
            schema = self.components[self._names[declared]] = {}
            schema.update(self._inline(validator, {**definitions, name: declared}))
            if is_message_type(declared) and declared.__doc__:
                schema.setdefault('description', declared.__doc__.strip())
        return {'$ref': REFERENCE_PREFIX + self._names[declared]}

    def _inline(self, validator: Any, definitions: Mapping[str, Any]) -> JSON:
        if isinstance(validator, validators.Ref):
            return self._nullable(validator, self.of(definitions[validator.ref], definitions))
        describe = next((makes for kind, makes in KINDS if isinstance(validator, kind)), described_any)
        schema = describe(validator, lambda part: self.of(part, definitions))
        return self._nullable(
            validator, {**schema, **annotations(validator), **given(enum=jsonable(schema.get('enum')))}
        )

    def _nullable(self, validator: Any, schema: JSON) -> JSON:
        if not getattr(validator, 'allow_null', False):
            return schema
        if 'enum' in schema:
            schema = {**schema, 'enum': [*schema['enum'], None]}
        if isinstance(schema.get('type'), str):
            return {**schema, 'type': [schema['type'], 'null']}
        return {'anyOf': [schema, {'type': 'null'}]} if '$ref' in schema or 'anyOf' in schema else schema


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """Return ``name``, or one like it that is not taken; two modules may have a type of one name."""
    name = NAME_IS_FREE.sub('_', name)
    candidates = [name, *('%s%d' % (name, number) for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)


Part = Callable[[Any], JSON]


def annotations(validator: Any) -> JSON:
    """Return title, description and default of a validator."""
    schema = {
        name: jsonable(getattr(validator, name)) for name in ('title', 'description') if getattr(validator, name, '')
    }
    if validator.has_default():
        default = primitive(validator.default)
        if is_json(default):
            schema['default'] = jsonable(default)
    return schema


def jsonable(value: Any) -> Any:
    """Return ``value`` as JSON and UTF-8 can hold it; anything else becomes text."""
    if isinstance(value, dict):
        return {jsonable(str(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, str):
        return value.encode('utf-8', 'replace').decode()
    return value if is_json(value) else str(value)


def is_json(value: Any) -> bool:
    """Return whether ``value`` can be written as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def given(**keywords: Any) -> JSON:
    """Return those keywords that have a value."""
    return {name: value for name, value in keywords.items() if value is not None}


def described_string(validator: validators.String, part: Part) -> JSON:
    """Return what a text has to be."""
    pattern = validator.pattern
    schema = given(
        type='string', minLength=validator.min_length, maxLength=validator.max_length,
        enum=None if validator.enum is None else list(dict.fromkeys(validator.enum)),
        format=JSON_FORMATS.get(validator.format, validator.format),
    )  # fmt: skip
    if pattern is not None and PYTHON_ONLY.search(pattern):
        return {**schema, 'description': 'Matches /%s/, a regular expression of Python.' % pattern}
    return {**schema, **given(pattern=pattern)}


def described_number(validator: validators.NumericType, part: Part) -> JSON:
    """Return what a number has to be."""
    kind = 'integer' if validator.numeric_type is int else 'number'
    least = 'exclusiveMinimum' if validator.exclusive_minimum else 'minimum'
    most = 'exclusiveMaximum' if validator.exclusive_maximum else 'maximum'
    limits = {least: validator.minimum, most: validator.maximum, 'multipleOf': validator.multiple_of}
    finite = {name: value for name, value in limits.items() if is_json(value)}
    return given(type=kind, format=validator.format, enum=validator.enum, **finite)


def described_boolean(validator: validators.Boolean, part: Part) -> JSON:
    """Return what a truth value has to be."""
    return {'type': 'boolean'}


def described_object(validator: validators.Object, part: Part) -> JSON:
    """Return what an object has to be."""
    patterns = {pattern: part(value) for pattern, value in validator.pattern_properties.items()}
    more = validator.additional_properties
    return given(
        type='object', properties={name: part(value) for name, value in validator.properties.items()} or None,
        patternProperties=patterns or None, required=list(validator.required) or None,
        # None lets others pass too, and drops them.
        additionalProperties=None if more in (None, True) else more and part(more),
        minProperties=validator.min_properties, maxProperties=validator.max_properties,
    )  # fmt: skip


def described_array(validator: validators.Array, part: Part) -> JSON:
    """Return what an array has to be."""
    items, more = validator.items, validator.additional_items
    schema = given(
        type='array', minItems=validator.min_items, maxItems=validator.max_items,
        uniqueItems=validator.unique_items or None,
    )  # fmt: skip
    if isinstance(items, list):
        additional = {'additionalItems': more and part(more)} if more not in (None, True) else {}
        return {**schema, 'items': [part(item) for item in items], **additional}
    return {**schema, **({} if items is None else {'items': part(items)})}


def described_union(validator: validators.Union, part: Part) -> JSON:
    """Return what one of several has to be; whether it may be null is for the union to say, and not for its items."""
    schema: JSON = {'anyOf': [part(item) for item in validator.items]}
    has_null = any(item.allow_null or not isinstance(item, NEVER_NULL) for item in validator.items)
    return {**schema, 'not': {'type': 'null'}} if has_null and not validator.allow_null else schema


def described_any(validator: Any, part: Part) -> JSON:
    """Return that it may be anything."""
    return {}


KINDS: List[Tuple[Any, Callable[[Any, Part], JSON]]] = [
    (validators.String, described_string),
    (validators.NumericType, described_number),
    (validators.Boolean, described_boolean),
    (validators.Object, described_object),
    (validators.Array, described_array),
    (validators.Union, described_union),
]
