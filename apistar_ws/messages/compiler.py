"""Compile a declared type into one function that makes its validators' checks.

API Star calls each validator of a type in turn, for every value. The compiled function makes the same checks without
these calls. It raises for every value that is not valid; the caller then calls API Star's validators, whose errors are
exact. So it may also raise for valid values that are rare, such as 1.0 for an Integer, and a type with validators that
are not API Star's own is not compiled.

There are two functions for each type: for a received message the function returns the result of the validators, an
instance of the type; for a sent message it returns values of JSON, since the instance would be discarded. For a type
``Point`` with one property, ``x = Integer(minimum=0)``, the function for received messages is::

    def check_0(value):
        if type(value) is not dict: raise Refused
        v1 = {}
        v2 = value['x']
        if type(v2) is not int: raise Refused
        if v2 < 0: raise Refused
        v1['x'] = v2
        if len(value) != 1:
            for v3 in value:
                if type(v3) is not str: raise Refused
        value = v1
        made = c8(c7)
        c9(made, '_dict', value)
        return made

The names that begin with ``c`` are constants: ``object.__new__``, ``Point`` and ``object.__setattr__``.
"""

import datetime
import re
from inspect import getattr_static
from math import isfinite
from typing import Any, Callable, Dict, List, Optional

from apistar import types, validators

from apistar_ws.generated import define
from apistar_ws.messages.codecs import primitive
from apistar_ws.messages.validation import SCALARS, Validation, checker, is_message_type, reachable

#: Returns the validated value, or raises.
Check = Callable[[Any], Any]
#: Lines of source code.
_Lines = List[str]
#: Methods of API Star's ``Type``. A type that overrides one of them is not compiled.
_STOCK_METHODS = (
    '__init__', '__new__', 'validate', '__getattribute__', '__getattr__', '__setattr__', '__getitem__', '__setitem__',
    '__iter__', '__len__', 'keys', 'items', 'values', 'get', 'has_default',
)  # fmt: skip
#: API Star's format, and the texts of it that :func:`timestamp` parses.
_DATETIME = validators.FORMATS['datetime']
_TIMESTAMP = re.compile(r'\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d{3}|\.\d{6})?Z?')


class Refused(Exception):
    """Raised for a value that is not valid, or that only API Star's validators can check."""


class NotCompilable(Exception):
    """Raised for a declared type with validators that are not API Star's own."""


def compile_check(declared: Any, is_sent: bool = False) -> Check:
    """Return the compiled function for a type or a validator.

    :param declared: a ``types.Type`` or a validator of API Star.
    :param is_sent: whether the function is for sent messages: it takes instances or values, and returns primitives.
    :raises NotCompilable: if it has validators that are not API Star's own, or is nested too deeply for Python.
    """
    try:
        return Compiler(is_sent).build(declared)
    except (SyntaxError, RecursionError):
        raise NotCompilable(declared) from None


class Compiler:
    """Writes the functions of a declared type and of the types in it.

    Each method for a validator returns the lines that check the value of the variable ``at``, and assign the result
    of the validator to it.

    :param is_sent: whether the functions are for sent messages.
    """

    def __init__(self, is_sent: bool) -> None:
        self._is_sent = is_sent
        self._names: Dict[str, Any] = dict(_NAMES)
        #: Names of the functions for types and objects, by id: each is compiled once.
        self._functions: Dict[int, str] = {}
        self._source: _Lines = []
        self._variables = 0
        #: Whether all functions share one validation: unions inside unions would check values again and again.
        self._is_shared = False

    def build(self, declared: Any) -> Check:
        """Return the function for ``declared``."""
        self._is_shared = _has_nested_unions(declared)
        name = self._root(declared)
        define('check of %s' % getattr(declared, '__name__', type(declared).__name__), self._source, self._names)
        check: Check = self._names[name]
        return check

    def _root(self, declared: Any) -> str:
        """Return the name of the outermost function."""
        if not is_message_type(declared):
            lines = [*self._check(declared, 'value'), 'return %s' % self._result(declared, 'value')]
        else:
            name, argument = self._function(declared), 'value'
            if self._is_sent and any(map(_has_format, declared.validator.properties.values())):
                # API Star's validators get its dates and times as text.
                argument = 'dict(value) if type(value) is %s else value' % self._constant(declared)
            elif not self._is_shared:
                return name
            lines = ['return %s' % self._call(name, argument)]
        begin = ['validation = Validation(depth=1)'] if self._is_shared else []
        self._source += ['def check(value):', *_indented([*begin, *lines])]
        return 'check'

    def _define(self, name: str, lines: _Lines) -> None:
        self._source += ['def %s(value%s):' % (name, ', validation' if self._is_shared else ''), *_indented(lines)]

    def _call(self, name: str, at: str) -> str:
        return '%s(%s%s)' % (name, at, ', validation' if self._is_shared else '')

    def _constant(self, value: Any) -> str:
        """Return the source for ``value``: a literal for an integer, otherwise the name of a constant."""
        if type(value) is int and abs(value) < 2**63:
            return repr(value)
        name = 'c%d' % len(self._names)
        self._names[name] = value
        return name

    def _variable(self) -> str:
        self._variables += 1
        return 'v%d' % self._variables

    def _result(self, validator: Any, at: str, owner: Any = None) -> str:
        """Return the expression for the result of a checked value; ``owner`` is the type whose property it is."""
        if not self._is_sent:
            return at
        if owner is not None and _has_format(validator):
            return 'literal(%s, %s)' % (self._constant(validator), at)
        return at if self._makes_primitives(validator) else 'primitive(%s)' % at

    def _makes_primitives(self, validator: Any) -> bool:
        """Return whether the lines for ``validator`` always result in values of JSON."""
        if is_message_type(validator):
            return True
        if type(getattr(validator, 'default', None)) not in SCALARS or _is_delegated(validator):
            return False
        return type(validator) not in (validators.Any, validators.Union)

    def _check(self, validator: Any, at: str) -> _Lines:
        if is_message_type(validator):
            return self._function_call(validator, at)
        write = _writer_of(validator)
        lines = self._delegated(validator, at) if _is_delegated(validator) else write(self, validator, at)
        return ['if %s is not None:' % at, *_indented(lines)] if lines and validator.allow_null else lines

    def _delegated(self, validator: Any, at: str) -> _Lines:
        """Return the line that calls API Star's validator."""
        _require_plain(validator)
        call = '%s(%s)' % (self._constant(checker(validator)), at)
        return ['%s = %s' % (at, 'timestamp(%s) or %s' % (at, call) if _is_any_datetime(validator) else call)]

    def _string(self, validator: Any, at: str) -> _Lines:
        return [
            _refuse('type(%s) is not str' % at),
            *self._limit(at, '{0} not in {1}', validator.enum),
            *self._sizes(at, validator.min_length, validator.max_length),
            *self._limit(at, 'not {1}({0})', None if validator.pattern is None else _search(validator.pattern)),
        ]

    def _integer(self, validator: Any, at: str) -> _Lines:
        return [_refuse('type(%s) is not int' % at), *self._numeric(validator, at)]

    def _number(self, validator: Any, at: str) -> _Lines:
        return [
            'if type(%s) is int: %s = float(%s)' % (at, at, at),
            'elif type(%s) is not float or not isfinite(%s): raise Refused' % (at, at),
            *self._numeric(validator, at),
        ]

    def _numeric(self, validator: Any, at: str) -> _Lines:
        is_float = isinstance(validator.multiple_of, float)
        return [
            *self._limit(at, '{0} not in {1}', validator.enum),
            *self._limit(at, '{0} <= {1}' if validator.exclusive_minimum else '{0} < {1}', validator.minimum),
            *self._limit(at, '{0} >= {1}' if validator.exclusive_maximum else '{0} > {1}', validator.maximum),
            *self._limit(at, 'not ({0} * (1 / {1})).is_integer()' if is_float else '{0} % {1}', validator.multiple_of),
        ]

    def _boolean(self, validator: Any, at: str) -> _Lines:
        return [_refuse('type(%s) is not bool' % at)]

    def _any(self, validator: Any, at: str) -> _Lines:
        return []

    def _sizes(self, at: str, least: Optional[int], most: Optional[int]) -> _Lines:
        return [*self._limit(at, 'len({0}) < {1}', least), *self._limit(at, 'len({0}) > {1}', most)]

    def _limit(self, at: str, condition: str, limit: Any) -> _Lines:
        """Return the line that refuses a value where ``condition`` is true, or none without a limit."""
        return [] if limit is None else [_refuse(condition.format(at, self._constant(limit)))]

    def _array(self, validator: Any, at: str) -> _Lines:
        items = validators.Any() if validator.items is None else validator.items
        made, item = self._variable(), self._variable()
        return [
            _refuse('type(%s) is not list' % at),
            *self._sizes(at, validator.min_items, validator.max_items),
            '%s = []' % made,
            'for %s in %s:' % (item, at),
            *_indented([*self._check(items, item), '%s.append(%s)' % (made, self._result(items, item))]),
            '%s = %s' % (at, made),
        ]

    def _union(self, validator: Any, at: str) -> _Lines:
        # If the lines of the first item refuse the value, its validator may still accept it, before the second one.
        first = validator.items[0]
        item = self._variable()
        return [
            _refuse('%s is None' % at),
            'try:',
            *_indented(['%s = %s' % (item, at), *self._check(first, item)]),
            'except Exception:',
            *_indented(self._delegated_union(validator, at)),
            'else:',
            *_indented(['%s = %s' % (at, item)]),
        ]

    def _delegated_union(self, validator: Any, at: str) -> _Lines:
        """Return the line that checks a value with all items of a union."""
        _require_plain(validator)
        check = 'validation.check' if self._is_shared else 'Validation().check'
        union, own = self._constant(validator), self._constant(validator.validate)
        return ['%s = %s(%s) if type(%s) in SCALARS else %s(%s, %s)' % (at, own, at, at, check, union, at)]

    def _function_call(self, validator: Any, at: str) -> _Lines:
        return ['%s = %s' % (at, self._call(self._function(validator), at))]

    def _object(self, validator: Any, at: str, owner: Any = None) -> _Lines:
        made = self._variable()
        required = [key for key in validator.required if key not in validator.properties]
        lines = [
            _refuse('type(%s) is not dict' % at),
            *self._sizes(at, validator.min_properties, validator.max_properties),
            *[_refuse('%r not in %s' % (key, at)) for key in required],
            '%s = {}' % made,
        ]
        for key, child in validator.properties.items():
            lines += self._property(key, child, key in validator.required, at, made, owner)
        return [*lines, *self._other_keys(validator, at, made), '%s = %s' % (at, made)]

    def _property(self, key: str, child: Any, is_required: bool, at: str, made: str, owner: Any) -> _Lines:
        """Return the lines that check a property of ``at`` and put it into ``made``."""
        item = self._variable()
        take = ['%s = %s[%r]' % (item, at, key), *self._check(child, item)]
        put = '%s[%r] = %s' % (made, key, self._result(child, item, owner))
        if is_required:
            # If it is missing, the KeyError refuses the value.
            return [*take, put]
        if not child.has_default():
            return ['if %r in %s:' % (key, at), *_indented([*take, put])]
        default = '%s = %s' % (item, self._constant(child.default))
        return ['if %r in %s:' % (key, at), *_indented(take), 'else:', *_indented([default]), put]

    def _other_keys(self, validator: Any, at: str, made: str) -> _Lines:
        """Return the lines for keys that are not properties."""
        key, item = self._variable(), self._variable()
        others = validator.additional_properties
        lines = [_refuse('type(%s) is not str' % key)]
        if others is False:
            lines.append(_refuse('%s not in %s' % (key, made)))
        elif others is not None:
            kind = validators.Any() if others is True else others
            take = ['%s = %s[%s]' % (item, at, key), *self._check(kind, item)]
            put = '%s[%s] = %s' % (made, key, self._result(kind, item))
            lines += ['if %s not in %s:' % (key, made), *_indented([*take, put])]
        loop = ['for %s in %s:' % (key, at), *_indented(lines)]
        if set(validator.properties) <= set(validator.required):
            # All properties are present: with as many keys there are no others.
            return ['if len(%s) != %d:' % (at, len(validator.properties)), *_indented(loop)]
        return loop

    def _function(self, declared: Any) -> str:
        """Return the name of the function for a type or an object, which may contain itself."""
        if id(declared) not in self._functions:
            self._functions[id(declared)] = name = 'check_%d' % len(self._functions)
            is_type = is_message_type(declared)
            self._define(name, self._type(declared) if is_type else [*self._object(declared, 'value'), 'return value'])
        return self._functions[id(declared)]

    def _type(self, declared: Any) -> _Lines:
        _require_stock(declared)
        kind = self._constant(declared)
        lines = self._object(declared.validator, 'value', declared)
        if not self._is_sent:
            make, put = self._constant(object.__new__), self._constant(object.__setattr__)
            return [*lines, 'made = %s(%s)' % (make, kind), "%s(made, '_dict', value)" % put, 'return made']
        is_checked = _is_immutable(declared)
        take = 'return %s' % self._instance('value._dict', declared) if is_checked else 'value = value._dict'
        return ['if type(value) is %s: %s' % (kind, take), *lines, 'return value']

    def _instance(self, at: str, declared: Any) -> str:
        """Return the expression for the values of an immutable instance, which were checked when they were set."""
        items = []
        for key, child in declared.validator.properties.items():
            item = '%s[%r]' % (at, key)
            value = self._call(self._function(child), item) if is_message_type(child) else item
            items.append('%r: %s' % (key, value))
        return '{%s}' % ', '.join(items)


#: The methods for validators of exactly these classes: subclasses may override ``validate``.
_WRITERS: Dict[Any, Callable[[Compiler, Any, str], _Lines]] = {
    validators.String: Compiler._string,
    validators.Date: Compiler._string,
    validators.Time: Compiler._string,
    validators.DateTime: Compiler._string,
    validators.Integer: Compiler._integer,
    validators.Number: Compiler._number,
    validators.Boolean: Compiler._boolean,
    validators.Any: Compiler._any,
    validators.Array: Compiler._array,
    validators.Object: Compiler._function_call,
    validators.Union: Compiler._union,
}


def _indented(lines: _Lines) -> _Lines:
    return ['    ' + line for line in lines]


def _refuse(condition: str) -> str:
    return 'if %s: raise Refused' % condition


def literal(validator: Any, value: Any) -> Any:
    """Return the value of a property as an instance has it: dates and times as text."""
    if value is not None and validator.format in validators.FORMATS:
        value = validators.FORMATS[validator.format].to_string(value)
    return primitive(value)


def timestamp(value: Any) -> Optional[datetime.datetime]:
    """Return the value of a usual text for a date and time, or None if API Star's format has to parse it."""
    if type(value) is not str or not _TIMESTAMP.fullmatch(value):
        return None
    if validators.FORMATS.get('datetime') is not _DATETIME:
        return None
    if value[-1] != 'Z':
        return datetime.datetime.fromisoformat(value)
    return datetime.datetime.fromisoformat(value[:-1]).replace(tzinfo=datetime.timezone.utc)


def _is_any_datetime(validator: Any) -> bool:
    """Return whether a validator accepts every date and time."""
    if not isinstance(validator, validators.String) or validator.format != 'datetime':
        return False
    limits = (validator.enum, validator.min_length, validator.max_length, validator.pattern)
    return all(limit is None for limit in limits)


def _search(pattern: str) -> Callable[[str], Any]:
    """Return the compiled ``search`` of a pattern.

    :raises NotCompilable: for an invalid pattern, with which API Star fails.
    """
    try:
        return re.compile(pattern).search
    except (re.error, OverflowError, RecursionError):
        raise NotCompilable(pattern) from None


def _is_delegated(validator: Any) -> bool:
    """Return whether the function calls API Star's validator: formats may be replaced, and some options are rare."""
    if isinstance(validator, validators.String):
        return validator.format is not None
    if isinstance(validator, validators.Array):
        return validator.unique_items or isinstance(validator.items, list)
    if isinstance(validator, validators.Object):
        return bool(validator.pattern_properties)
    return isinstance(validator, validators.Union) and not validator.items


def _is_immutable(declared: Any) -> bool:
    """Return whether all values in an instance of a type are scalars, which cannot have changed since their check."""
    return all(is_message_type(held) or _is_scalar(held) for held in reachable(declared))


def _is_scalar(validator: Any) -> bool:
    """Return whether all results of a validator are scalars that are the same in an instance and in JSON."""
    kinds = (validators.String, validators.Integer, validators.Number, validators.Boolean)
    return type(validator) in kinds and not _has_format(validator) and _has_valid_default(validator)


def _has_valid_default(validator: Any) -> bool:
    """Return whether the default, which API Star does not check, is a result of the validator."""
    if not validator.has_default():
        return True
    try:
        made = validator.validate(validator.default)
    except Exception:
        return False
    return type(made) is type(validator.default) and bool(made == validator.default)


def _has_format(validator: Any) -> bool:
    """Return whether an instance may return a property in another form than it has stored."""
    return getattr(validator, 'format', None) is not None


def _is_stock(declared: Any) -> bool:
    """Return whether a type behaves as API Star's ``Type`` does."""
    inherits = all(getattr_static(declared, name) is getattr_static(types.Type, name) for name in _STOCK_METHODS)
    names = {name for base in declared.__mro__ for name in vars(base)}
    validator = declared.validator
    if (
        type(declared) is not types.TypeMetaclass
        or type(validator) is not validators.Object
        or not _is_plain(validator)
    ):
        return False
    is_usual = validator.additional_properties is None and not _is_delegated(validator)
    return inherits and is_usual and not names & {'_dict', *validator.properties}


def _is_plain(validator: Any) -> bool:
    """Return whether a validator is an instance of one of API Star's classes, with its ``validate``."""
    return type(validator) in _WRITERS and 'validate' not in vars(validator)


def _writer_of(validator: Any) -> Callable[[Compiler, Any, str], _Lines]:
    """Return the method of the compiler for a validator.

    :raises NotCompilable: if it is not API Star's own.
    """
    if not _is_plain(validator):
        raise NotCompilable(validator)
    return _WRITERS[type(validator)]


def _require_stock(declared: Any) -> None:
    if not _is_stock(declared):
        raise NotCompilable(declared)


def _require_plain(validator: Any) -> None:
    """Refuse a validator that contains others than API Star's own, or a ``Ref``, whose target depends on the place."""
    for held in reachable(validator):
        if is_message_type(held):
            _require_stock(held)
        else:
            _writer_of(held)


def _has_nested_unions(declared: Any) -> bool:
    unions = [held for held in reachable(declared) if isinstance(held, validators.Union) and held.items]
    return any(isinstance(held, validators.Union) for union in unions for held in reachable(union.items[0]))


#: The global names of generated source.
_NAMES = {
    'SCALARS': SCALARS,
    **{function.__name__: function for function in (Refused, Validation, isfinite, primitive, literal, timestamp)},
}
