"""JSON Schemas (Draft 7) of API Star's validators and types."""

import json
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from apistar import validators

from apistar_ws.messages.codecs import primitive
from apistar_ws.messages.validation import is_message_type

#: The location of schemas in the document.
_REFERENCE_PREFIX = '#/components/schemas/'
INVALID_IN_NAMES = re.compile(r'[^\w.-]')
#: Syntax of Python's regular expressions that JSON Schema (ECMA-262) does not have.
_PYTHON_ONLY = re.compile(r'\(\?P|\(\?[aiLmsux]+[):-]|\(\?\(|\(\?#|\(\?>|\\[AZ]|[*+?}]\+')
#: API Star's time has no time zone, which the ``time`` of JSON Schema has.
_FORMATS = {'datetime': 'date-time', 'time': 'partial-time'}

JSON = Dict[str, Any]
#: Validators that accept null only with ``allow_null``.
_NEVER_NULL = (validators.String, validators.NumericType, validators.Boolean, validators.Object, validators.Array)


class Schemas:
    """Makes JSON Schemas, and collects those of types, since types may refer to each other."""

    def __init__(self) -> None:
        #: The schemas of types, by name.
        self.components: Dict[str, JSON] = {}
        self._names: Dict[Any, str] = {}

    def of(self, declared: Any, definitions: Optional[Mapping[str, Any]] = None) -> JSON:
        """Return the schema of a ``types.Type`` or a validator.

        :param definitions: the validators that a ``Ref`` in it may refer to, by name.
        """
        if is_message_type(declared):
            return self._reference(declared, declared.__name__, declared.validator, definitions or {})
        known = {**(definitions or {}), **(getattr(declared, 'definitions', None) or {})}
        if declared.def_name:
            known[declared.def_name] = declared
            return self._reference(declared, declared.def_name, declared, known)
        return self._inline(declared, known)

    def _reference(self, declared: Any, name: str, validator: Any, definitions: Mapping[str, Any]) -> JSON:
        """Return a reference to the schema of a named type, which is made once, since it may refer to itself."""
        if declared not in self._names:
            self._names[declared] = free_name(name, self.components)
            schema = self.components[self._names[declared]] = {}
            schema.update(self._inline(validator, {**definitions, name: declared}))
            if is_message_type(declared) and declared.__doc__:
                schema.setdefault('description', declared.__doc__.strip())
        return {'$ref': _REFERENCE_PREFIX + self._names[declared]}

    def _inline(self, validator: Any, definitions: Mapping[str, Any]) -> JSON:
        if isinstance(validator, validators.Ref):
            return self._nullable(validator, self.of(definitions[validator.ref], definitions))
        encode = next((encode for kind, encode in _ENCODERS if isinstance(validator, kind)), None)
        schema = {} if encode is None else encode(validator, lambda part: self.of(part, definitions))
        return self._nullable(
            validator, {**schema, **_annotations(validator), **_without_none(enum=jsonable(schema.get('enum')))}
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
    """Return ``name``, with a number if it is taken: two modules may have types of the same name."""
    name = INVALID_IN_NAMES.sub('_', name)
    candidates = [name, *('%s%d' % (name, number) for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)


#: Returns the schema of a validator inside another one.
_SchemaOf = Callable[[Any], JSON]


def _annotations(validator: Any) -> JSON:
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
    """Return ``value`` with everything that JSON and UTF-8 cannot encode replaced by text."""
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


def _without_none(**keywords: Any) -> JSON:
    """Return the keywords without those that are None."""
    return {name: value for name, value in keywords.items() if value is not None}


def _string(validator: validators.String, schema_of: _SchemaOf) -> JSON:
    pattern = validator.pattern
    schema = _without_none(
        type='string', minLength=validator.min_length, maxLength=validator.max_length,
        enum=None if validator.enum is None else list(dict.fromkeys(validator.enum)),
        format=_FORMATS.get(validator.format, validator.format),
    )  # fmt: skip
    if pattern is not None and _PYTHON_ONLY.search(pattern):
        return {**schema, 'description': 'Matches /%s/, a regular expression of Python.' % pattern}
    return {**schema, **_without_none(pattern=pattern)}


def _number(validator: validators.NumericType, schema_of: _SchemaOf) -> JSON:
    kind = 'integer' if validator.numeric_type is int else 'number'
    least = 'exclusiveMinimum' if validator.exclusive_minimum else 'minimum'
    most = 'exclusiveMaximum' if validator.exclusive_maximum else 'maximum'
    limits = {least: validator.minimum, most: validator.maximum, 'multipleOf': validator.multiple_of}
    finite = {name: value for name, value in limits.items() if is_json(value)}
    return _without_none(type=kind, format=validator.format, enum=validator.enum, **finite)


def _object(validator: validators.Object, schema_of: _SchemaOf) -> JSON:
    patterns = {pattern: schema_of(value) for pattern, value in validator.pattern_properties.items()}
    more = validator.additional_properties
    return _without_none(
        type='object', properties={name: schema_of(value) for name, value in validator.properties.items()} or None,
        patternProperties=patterns or None, required=list(validator.required) or None,
        # With None the validator accepts others too, and drops them.
        additionalProperties=None if more in (None, True) else more and schema_of(more),
        minProperties=validator.min_properties, maxProperties=validator.max_properties,
    )  # fmt: skip


def _array(validator: validators.Array, schema_of: _SchemaOf) -> JSON:
    items, more = validator.items, validator.additional_items
    schema = _without_none(
        type='array', minItems=validator.min_items, maxItems=validator.max_items,
        uniqueItems=validator.unique_items or None,
    )  # fmt: skip
    if isinstance(items, list):
        additional = {'additionalItems': more and schema_of(more)} if more not in (None, True) else {}
        return {**schema, 'items': [schema_of(item) for item in items], **additional}
    return {**schema, **({} if items is None else {'items': schema_of(items)})}


def _union(validator: validators.Union, schema_of: _SchemaOf) -> JSON:
    """Return the schema of a union, which alone decides whether null is allowed; its items do not."""
    schema: JSON = {'anyOf': [schema_of(item) for item in validator.items]}
    has_null = any(item.allow_null or not isinstance(item, _NEVER_NULL) for item in validator.items)
    return {**schema, 'not': {'type': 'null'}} if has_null and not validator.allow_null else schema


_ENCODERS: List[Tuple[Any, Callable[[Any, _SchemaOf], JSON]]] = [
    (validators.String, _string),
    (validators.NumericType, _number),
    (validators.Boolean, lambda validator, schema_of: {'type': 'boolean'}),
    (validators.Object, _object),
    (validators.Array, _array),
    (validators.Union, _union),
]
