"""Validation at once: the source of a function is written for a declared type, which asks what its validators ask.

API Star asks each validator of a type in turn, for every value. A function that is written for the type asks the same
questions without looking for them. It takes what is valid and raises for everything else; whoever calls it then has
API Star's validators look, whose errors are exact. So it may also raise for what is valid and seldom, such as 1.0 for
an Integer, and it is not used where anything but API Star's own classes takes part.

For each type there are two functions: of what is received, it returns what the validators would, instances of the type;
of what is sent, it returns what JSON knows, since nobody sees the instance. For a type ``Point`` that has one property,
``x = Integer(minimum=0)``, the first is::

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

where the names with a ``c`` are constants: ``object.__new__``, ``Point``, ``object.__setattr__``.
"""

import datetime
import re
from inspect import getattr_static
from math import isfinite
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

from apistar import types, validators

from apistar_ws.generated import define
from apistar_ws.messages.codecs import primitive
from apistar_ws.messages.validation import SCALARS, Validation, checker, is_message_type, parts_of

#: What a value is made of: asks, and makes.
Check = Callable[[Any], Any]
#: The lines of a source.
Lines = List[str]
#: What API Star's ``Type`` does with these is known; a type that does something else is not compiled.
STOCK_METHODS = (
    '__init__', '__new__', 'validate', '__getattribute__', '__getattr__', '__setattr__', '__getitem__', '__setitem__',
    '__iter__', '__len__', 'keys', 'items', 'values', 'get', 'has_default',
)  # fmt: skip
#: The format of API Star's that :func:`timestamp` knows, and what it knows of it.
DATETIME = validators.FORMATS['datetime']
TIMESTAMP = re.compile(r'\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d{3}|\.\d{6})?Z?')


class Refused(Exception):
    """Raised for a value that is not valid, or that only API Star's validators can tell."""


class NotCompilable(Exception):
    """Raised for a declared type that holds what is not API Star's own."""


def compiled(declared: Any, is_sent: bool = False) -> Check:
    """Return the function for a type or a validator.

    :param declared: a ``types.Type`` or a validator of API Star's.
    :param is_sent: whether it is for what is sent: given an instance or a value, the function returns primitives.
    :raises NotCompilable: for what only its own validators can tell, or what is too deep for Python.
    """
    try:
        return Compiler(is_sent).build(declared)
    except (SyntaxError, RecursionError):
        raise NotCompilable(declared) from None


class Compiler:
    """Writes the functions of one declared type, and of the types in it.

    Each method for a validator returns the lines that check the value in the variable ``at``, and leave there what the
    validator would return.

    :param is_sent: whether they are for what is sent.
    """

    def __init__(self, is_sent: bool) -> None:
        self._is_sent = is_sent
        self._names: Dict[str, Any] = dict(NAMES)
        #: The functions for types and objects, by their ids: one may be in many places.
        self._functions: Dict[int, str] = {}
        self._settled_types: Dict[Any, bool] = {}
        self._source: Lines = []
        self._variables = 0
        #: Whether one validation is passed to all functions, for unions inside unions.
        self._is_shared = False

    def build(self, declared: Any) -> Check:
        """Return the function for ``declared``."""
        self._is_shared = any(holds_union(union.items[0]) for union in unions_in(declared) if union.items)
        name = self._root(declared)
        define('check of %s' % getattr(declared, '__name__', type(declared).__name__), self._source, self._names)
        check: Check = self._names[name]
        return check

    def _root(self, declared: Any) -> str:
        """Return the name of the function for what nothing is around."""
        if not is_message_type(declared):
            lines = [*self._check(declared, 'value'), 'return %s' % self._result(declared, 'value')]
        else:
            name, given = self._function(declared), 'value'
            if self._is_sent and any(map(has_format, declared.validator.properties.values())):
                # API Star's validators are given its dates and times as text.
                given = 'dict(value) if type(value) is %s else value' % self._constant(declared)
            elif not self._is_shared:
                return name
            lines = ['return %s' % self._called(name, given)]
        begin = ['validation = Validation(depth=1)'] if self._is_shared else []
        self._source += ['def check(value):', *indented([*begin, *lines])]
        return 'check'

    def _define(self, name: str, lines: Lines) -> None:
        self._source += ['def %s(value%s):' % (name, ', validation' if self._is_shared else ''), *indented(lines)]

    def _called(self, name: str, at: str) -> str:
        """Return the call of a function for a type or an object."""
        return '%s(%s%s)' % (name, at, ', validation' if self._is_shared else '')

    def _constant(self, value: Any) -> str:
        """Return what the source has for ``value``: a number as it is, and a name for anything else."""
        if type(value) is int and abs(value) < 2**63:
            return repr(value)
        name = 'c%d' % len(self._names)
        self._names[name] = value
        return name

    def _variable(self) -> str:
        self._variables += 1
        return 'v%d' % self._variables

    def _result(self, validator: Any, at: str, owner: Any = None) -> str:
        """Return the expression for what becomes of a value that has been checked, in an instance of ``owner``."""
        if not self._is_sent:
            return at
        if owner is not None and has_format(validator):
            return 'literal(%s, %s)' % (self._constant(validator), at)
        return at if self._makes_primitives(validator) else 'primitive(%s)' % at

    def _makes_primitives(self, validator: Any) -> bool:
        """Return whether what the lines for ``validator`` leave needs no second look before it becomes JSON."""
        if is_message_type(validator):
            return True
        if type(getattr(validator, 'default', None)) not in SCALARS or is_asked(validator):
            return False
        return type(validator) not in (validators.Any, validators.Union)

    def _check(self, validator: Any, at: str) -> Lines:
        """Return the lines for any validator."""
        if is_message_type(validator):
            return self._call(validator, at)
        write = writer_of(validator)
        lines = self._ask(validator, at) if is_asked(validator) else write(self, validator, at)
        return ['if %s is not None:' % at, *indented(lines)] if lines and validator.allow_null else lines

    def _ask(self, validator: Any, at: str) -> Lines:
        """Return the line that has API Star's validator look."""
        require_own(validator)
        asked = '%s(%s)' % (self._constant(checker(validator)), at)
        return ['%s = %s' % (at, 'timestamp(%s) or %s' % (at, asked) if is_any_moment(validator) else asked)]

    def _string(self, validator: Any, at: str) -> Lines:
        lines = [refuse('type(%s) is not str' % at)]
        if validator.enum is not None:
            lines.append(refuse('%s not in %s' % (at, self._constant(validator.enum))))
        lines += self._sizes(at, validator.min_length, validator.max_length)
        if validator.pattern is not None:
            lines.append(refuse('not %s(%s)' % (self._constant(search(validator.pattern)), at)))
        return lines

    def _integer(self, validator: Any, at: str) -> Lines:
        return [refuse('type(%s) is not int' % at), *self._numeric(validator, at)]

    def _number(self, validator: Any, at: str) -> Lines:
        return [
            'if type(%s) is int: %s = float(%s)' % (at, at, at),
            'elif type(%s) is not float or not isfinite(%s): raise Refused' % (at, at),
            *self._numeric(validator, at),
        ]

    def _numeric(self, validator: Any, at: str) -> Lines:
        lines = []
        if validator.enum is not None:
            lines.append(refuse('%s not in %s' % (at, self._constant(validator.enum))))
        if validator.minimum is not None:
            sign = '<=' if validator.exclusive_minimum else '<'
            lines.append(refuse('%s %s %s' % (at, sign, self._constant(validator.minimum))))
        if validator.maximum is not None:
            sign = '>=' if validator.exclusive_maximum else '>'
            lines.append(refuse('%s %s %s' % (at, sign, self._constant(validator.maximum))))
        if validator.multiple_of is not None:
            of = self._constant(validator.multiple_of)
            is_float = isinstance(validator.multiple_of, float)
            wrong = 'not (%s * (1 / %s)).is_integer()' if is_float else '%s %% %s'
            lines.append(refuse(wrong % (at, of)))
        return lines

    def _boolean(self, validator: Any, at: str) -> Lines:
        return [refuse('type(%s) is not bool' % at)]

    def _any(self, validator: Any, at: str) -> Lines:
        return []

    def _sizes(self, at: str, least: Optional[int], most: Optional[int]) -> Lines:
        lines = [] if least is None else [refuse('len(%s) < %s' % (at, self._constant(least)))]
        return lines + ([] if most is None else [refuse('len(%s) > %s' % (at, self._constant(most)))])

    def _array(self, validator: Any, at: str) -> Lines:
        lines = [
            refuse('type(%s) is not list' % at),
            *self._sizes(at, validator.min_items, validator.max_items),
        ]
        items = validators.Any() if validator.items is None else validator.items
        made, item = self._variable(), self._variable()
        loop = [*self._check(items, item), '%s.append(%s)' % (made, self._result(items, item))]
        return [
            *lines,
            '%s = []' % made,
            'for %s in %s:' % (item, at),
            *indented(loop),
            '%s = %s' % (at, made),
        ]

    def _union(self, validator: Any, at: str) -> Lines:
        # What the first of them does not take at once it may take after all, before the second is asked.
        first = validator.items[0]
        item = self._variable()
        return [
            refuse('%s is None' % at),
            'try:',
            *indented(['%s = %s' % (item, at), *self._check(first, item)]),
            'except Exception:',
            *indented(self._ask_union(validator, at)),
            'else:',
            *indented(['%s = %s' % (at, item)]),
        ]

    def _ask_union(self, validator: Any, at: str) -> Lines:
        """Return the line that checks a value by all items of a union."""
        require_own(validator)
        asked = 'validation.check' if self._is_shared else 'Validation().check'
        union, own = self._constant(validator), self._constant(validator.validate)
        return ['%s = %s(%s) if type(%s) in SCALARS else %s(%s, %s)' % (at, own, at, at, asked, union, at)]

    def _call(self, validator: Any, at: str) -> Lines:
        return ['%s = %s' % (at, self._called(self._function(validator), at))]

    def _object(self, validator: Any, at: str, owner: Any = None) -> Lines:
        made = self._variable()
        required = [key for key in validator.required if key not in validator.properties]
        lines = [
            refuse('type(%s) is not dict' % at),
            *self._sizes(at, validator.min_properties, validator.max_properties),
            *[refuse('%r not in %s' % (key, at)) for key in required],
            '%s = {}' % made,
        ]
        for key, child in validator.properties.items():
            lines += self._property(key, child, key in validator.required, at, made, owner)
        return [*lines, *self._other_keys(validator, at, made), '%s = %s' % (at, made)]

    def _property(self, key: str, child: Any, is_required: bool, at: str, made: str, owner: Any) -> Lines:
        """Return the lines that take one property from ``at`` to ``made``."""
        item = self._variable()
        take = ['%s = %s[%r]' % (item, at, key), *self._check(child, item)]
        put = '%s[%r] = %s' % (made, key, self._result(child, item, owner))
        if is_required:
            # Where it is not there, the KeyError refuses.
            return [*take, put]
        if not child.has_default():
            return ['if %r in %s:' % (key, at), *indented([*take, put])]
        default = '%s = %s' % (item, self._constant(child.default))
        return ['if %r in %s:' % (key, at), *indented(take), 'else:', *indented([default]), put]

    def _other_keys(self, validator: Any, at: str, made: str) -> Lines:
        """Return the lines for the keys that are no properties."""
        key, item = self._variable(), self._variable()
        others = validator.additional_properties
        lines = [refuse('type(%s) is not str' % key)]
        if others is False:
            lines.append(refuse('%s not in %s' % (key, made)))
        elif others is not None:
            kind = validators.Any() if others is True else others
            take = ['%s = %s[%s]' % (item, at, key), *self._check(kind, item)]
            put = '%s[%s] = %s' % (made, key, self._result(kind, item))
            lines += ['if %s not in %s:' % (key, made), *indented([*take, put])]
        loop = ['for %s in %s:' % (key, at), *indented(lines)]
        if set(validator.properties) <= set(validator.required):
            # All of them are there, so that as many keys are no others.
            return ['if len(%s) != %d:' % (at, len(validator.properties)), *indented(loop)]
        return loop

    def _function(self, declared: Any) -> str:
        """Return the name of the function for a type or an object, which may hold itself."""
        if id(declared) not in self._functions:
            self._functions[id(declared)] = name = 'check_%d' % len(self._functions)
            is_type = is_message_type(declared)
            self._define(name, self._type(declared) if is_type else [*self._object(declared, 'value'), 'return value'])
        return self._functions[id(declared)]

    def _type(self, declared: Any) -> Lines:
        """Return the lines of the function for a type."""
        require_stock(declared)
        kind = self._constant(declared)
        lines = self._object(declared.validator, 'value', declared)
        if not self._is_sent:
            make, put = self._constant(object.__new__), self._constant(object.__setattr__)
            return [*lines, 'made = %s(%s)' % (make, kind), "%s(made, '_dict', value)" % put, 'return made']
        settled = is_settled(declared, self._settled_types)
        take = 'return %s' % self._settled('value._dict', declared) if settled else 'value = value._dict'
        return ['if type(value) is %s: %s' % (kind, take), *lines, 'return value']

    def _settled(self, at: str, declared: Any) -> str:
        """Return the expression for what an instance holds: valid when it was set, and unchanged since."""
        items = []
        for key, child in declared.validator.properties.items():
            item = '%s[%r]' % (at, key)
            called = self._called(self._function(child), item) if is_message_type(child) else item
            items.append('%r: %s' % (key, called))
        return '{%s}' % ', '.join(items)


#: What writes the lines for a validator; of exactly these classes, since others have a ``validate`` of their own.
WRITERS: Dict[Any, Callable[[Compiler, Any, str], Lines]] = {
    validators.String: Compiler._string,
    validators.Date: Compiler._string,
    validators.Time: Compiler._string,
    validators.DateTime: Compiler._string,
    validators.Integer: Compiler._integer,
    validators.Number: Compiler._number,
    validators.Boolean: Compiler._boolean,
    validators.Any: Compiler._any,
    validators.Array: Compiler._array,
    validators.Object: Compiler._call,
    validators.Union: Compiler._union,
}


def indented(lines: Lines) -> Lines:
    """Return ``lines`` one step deeper."""
    return ['    ' + line for line in lines]


def refuse(condition: str) -> str:
    """Return the line that refuses a value where ``condition`` holds."""
    return 'if %s: raise Refused' % condition


def literal(validator: Any, value: Any) -> Any:
    """Return a property as an instance shows it: dates and times as text."""
    if value is not None and validator.format in validators.FORMATS:
        value = validators.FORMATS[validator.format].to_string(value)
    return primitive(value)


def timestamp(value: Any) -> Optional[datetime.datetime]:
    """Return the moment that a text names as most programs write it, or None where API Star has to look."""
    if type(value) is not str or not TIMESTAMP.fullmatch(value):
        return None
    if validators.FORMATS.get('datetime') is not DATETIME:
        return None
    if value[-1] != 'Z':
        return datetime.datetime.fromisoformat(value)
    return datetime.datetime.fromisoformat(value[:-1]).replace(tzinfo=datetime.timezone.utc)


def is_any_moment(validator: Any) -> bool:
    """Return whether a validator takes every date with a time."""
    if not isinstance(validator, validators.String) or validator.format != 'datetime':
        return False
    limits = (validator.enum, validator.min_length, validator.max_length, validator.pattern)
    return all(limit is None for limit in limits)


def search(pattern: str) -> Callable[[str], Any]:
    """Return what looks for ``pattern``.

    :raises NotCompilable: for what is no pattern; API Star fails when it comes to it.
    """
    try:
        return re.compile(pattern).search
    except (re.error, OverflowError, RecursionError):
        raise NotCompilable(pattern) from None


def is_asked(validator: Any) -> bool:
    """Return whether API Star's own ``validate`` is asked: its formats change, and what is seldom needs no lines."""
    if isinstance(validator, validators.String):
        return validator.format is not None
    if isinstance(validator, validators.Array):
        return validator.unique_items or isinstance(validator.items, list)
    if isinstance(validator, validators.Object):
        return bool(validator.pattern_properties)
    return isinstance(validator, validators.Union) and not validator.items


def is_settled(declared: Any, known: Dict[Any, bool]) -> bool:
    """Return whether an instance of a type holds nothing but what was checked when it was set, and cannot change.

    :param known: what has been told of others; a type that holds itself is not settled.
    """
    if declared not in known:
        known[declared] = False
        known[declared] = all(
            is_settled(child, known) if is_message_type(child) else is_unchanging(child)
            for child in declared.validator.properties.values()
        )
    return known[declared]


def is_unchanging(validator: Any) -> bool:
    """Return whether a validator leaves a scalar, which is on the wire what it is in the instance."""
    kinds = (validators.String, validators.Integer, validators.Number, validators.Boolean)
    return type(validator) in kinds and not has_format(validator) and is_valid_default(validator)


def is_valid_default(validator: Any) -> bool:
    """Return whether the default, which nobody has checked, is what the validator would make of it."""
    if not validator.has_default():
        return True
    try:
        made = validator.validate(validator.default)
    except Exception:
        return False
    return type(made) is type(validator.default) and bool(made == validator.default)


def has_format(validator: Any) -> bool:
    """Return whether an instance may show a property otherwise than it holds it."""
    return getattr(validator, 'format', None) is not None


def is_stock(declared: Any) -> bool:
    """Return whether a type does what API Star's ``Type`` does, and nothing else."""
    inherits = all(getattr_static(declared, name) is getattr_static(types.Type, name) for name in STOCK_METHODS)
    names = {name for base in declared.__mro__ for name in vars(base)}
    validator = declared.validator
    if type(declared) is not types.TypeMetaclass or type(validator) is not validators.Object or not is_own(validator):
        return False
    is_usual = validator.additional_properties is None and not is_asked(validator)
    return inherits and is_usual and not names & {'_dict', *validator.properties}


def is_own(validator: Any) -> bool:
    """Return whether a validator is of exactly one of API Star's classes, and validates as that does."""
    return type(validator) in WRITERS and 'validate' not in vars(validator)


def writer_of(validator: Any) -> Callable[[Compiler, Any, str], Lines]:
    """Return what writes the lines for a validator.

    :raises NotCompilable: for one that is not API Star's own.
    """
    if not is_own(validator):
        raise NotCompilable(validator)
    return WRITERS[type(validator)]


def require_stock(declared: Any) -> None:
    """Refuse a type that does something of its own."""
    if not is_stock(declared):
        raise NotCompilable(declared)


def require_own(validator: Any, seen: Optional[Set[int]] = None) -> None:
    """Refuse a validator that holds what is not API Star's own, or what depends on where it is, as a ``Ref`` does."""
    seen = set() if seen is None else seen
    if id(validator) in seen:
        return
    seen.add(id(validator))
    if is_message_type(validator):
        require_stock(validator)
        validator = validator.validator
    writer_of(validator)
    for part in parts_of(validator):
        require_own(part, seen)


def unions_in(declared: Any) -> Iterator[Any]:
    """Yield each union that a type or a validator holds or is."""
    seen: Set[int] = set()
    waiting = [declared]
    while waiting:
        validator = waiting.pop()
        if id(validator) in seen:
            continue
        seen.add(id(validator))
        if isinstance(validator, validators.Union):
            yield validator
        if is_message_type(validator):
            validator = validator.validator
        waiting += parts_of(validator) if isinstance(validator, validators.Validator) else ()


def holds_union(declared: Any) -> bool:
    """Return whether a type or a validator is a union or holds one."""
    return next(unions_in(declared), None) is not None


#: The names that sources use.
NAMES = {
    'SCALARS': SCALARS,
    **{function.__name__: function for function in (Refused, Validation, isfinite, primitive, literal, timestamp)},
}
