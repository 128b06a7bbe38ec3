"""Compiled types have the results and errors of API Star's validators, for random types and values."""

import datetime
import enum
import textwrap

import orjson
import pytest
from apistar import types, validators
from apistar.exceptions import ValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws import InvalidMessage
from apistar_ws.messages import compiler as module
from apistar_ws.messages.codecs import STANDARD_CODEC, json_codec
from apistar_ws.messages.compiler import Compiler, NotCompilable, Refused, compile_check
from apistar_ws.messages.schema import Schema
from tests.sizes import examples

CODECS = [STANDARD_CODEC, json_codec(orjson)]


class Shouting(validators.String):
    """A validator of a user's own."""

    def validate(self, value, definitions=None, allow_coerce=False):
        return super().validate(value, definitions, allow_coerce).upper()


class Colour(str, enum.Enum):
    RED = 'red'


class Point(types.Type):
    x = validators.Integer(minimum=0)
    y = validators.Number(default=None, allow_null=True)


class Flag(Point):
    """A subclass, which has a field more."""

    is_big = validators.Boolean(default=False)


class Event(types.Type):
    at = validators.DateTime()
    on = validators.Date(allow_null=True)
    place = Point
    tags = validators.Array(items=validators.String(), unique_items=True, default=[])


class Lowering(types.Type):
    """A type that does something of its own."""

    name = validators.String()

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.name = self.name.lower()


class Tree(types.Type):
    name = validators.String()


Tree.validator.properties['trees'] = validators.Array(items=Tree, default=[])

NOW = datetime.datetime(2026, 11, 27, 12, 30, tzinfo=datetime.timezone.utc)
EVENT = {'at': '2026-11-27T12:30:00Z', 'on': '2026-11-27', 'place': {'x': 1, 'y': 2}, 'tags': ['a']}
#: Values that are rarely valid, of all types of JSON, and others that a program may send.
OTHERS = [
    None, True, False, 0, 1, 7, -3, 1.0, 2.5, -0.0, 10**400, float('inf'), float('nan'), '', 'a', 'AB', 'a' * 9, '5',
    'é', '2026-11-27', '2026-02-30', '12:30', '25:61', '2026-11-27T12:30:00Z', '2026-11-27 12:30', [], [1], ['a', 'a'],
    {}, {'a': 1}, {'x': 1}, {1: 2}, {'a': 'b', 'x': 2, 'more': None}, (1, 2), b'bytes', Colour.RED, NOW, NOW.date(),
    NOW.timetz(), EVENT,
    {'name': 'Ann', 'trees': [{'name': 'Bob'}, {'name': 'Cy', 'trees': []}]},
]  # fmt: skip
FORMATS = {'date': '2026-11-27', 'time': '12:30:01', 'datetime': '2026-11-27T12:30:00+01:00'}
DEFAULTS = [{}, {}, {}, {'default': None}, {'default': 'é'}, {'default': [1]}, {'default': NOW}, {'default': 4}]
maybe = st.booleans()


def one_of(*values):
    return st.sampled_from(values)


@st.composite
def common(draw):
    return {'allow_null': draw(one_of(False, False, True)), **draw(st.sampled_from(DEFAULTS))}


@st.composite
def strings(draw):
    return draw(one_of(validators.String, validators.String, validators.String, Shouting))(
        min_length=draw(one_of(None, None, 1, 2)), max_length=draw(one_of(None, None, 3, 9)),
        pattern=draw(one_of(None, None, None, '[a-z]', '^A', '(')),
        enum=draw(one_of(None, None, None, ['a'], ['a', 'AB'])),
        format=draw(one_of(None, None, None, 'date', 'time', 'datetime', 'email')), **draw(common()),
    )  # fmt: skip


@st.composite
def numbers(draw):
    return draw(one_of(validators.Integer, validators.Number))(
        minimum=draw(one_of(None, None, 0, 0.5)), maximum=draw(one_of(None, None, 7, 7.5)),
        exclusive_minimum=draw(maybe), exclusive_maximum=draw(maybe), enum=draw(one_of(None, None, None, None, ['1'])),
        multiple_of=draw(one_of(None, None, 1, 2, 0.5, 0)), format=draw(one_of(None, None, None, 'int32', 'date')),
        **draw(common()),
    )  # fmt: skip


LEAVES = st.one_of(
    strings(),
    numbers(),
    common().map(lambda options: validators.Boolean(**options)),
    common().map(lambda options: validators.Any(**options)),
    common().map(lambda options: validators.Date(**options)),
)
TYPES = one_of(Point, Event, Lowering, Flag, Tree)
NAMES = one_of('a', 'x', 'name', 'ü"\'\\')


@st.composite
def objects(draw, parts):
    properties = draw(st.dictionaries(NAMES, parts | TYPES, max_size=3))
    return validators.Object(
        properties=properties, required=draw(st.lists(one_of(*properties, 'more'), max_size=2, unique=True)),
        pattern_properties=draw(one_of(None, None, None, {'^m': validators.String()})),
        additional_properties=draw(one_of(True, False, None) | parts | TYPES),
        min_properties=draw(one_of(None, None, 1, 2)), max_properties=draw(one_of(None, None, 2)), **draw(common()),
    )  # fmt: skip


@st.composite
def arrays(draw, parts):
    return validators.Array(
        items=draw(one_of(None) | parts | parts | TYPES | st.lists(parts, min_size=1, max_size=2)),
        additional_items=draw(one_of(None, True, False)), unique_items=draw(one_of(False, False, False, True)),
        min_items=draw(one_of(None, None, 1)), max_items=draw(one_of(None, None, 1, 3)), **draw(common()),
    )  # fmt: skip


@st.composite
def unions(draw, parts):
    return validators.Union(draw(st.lists(parts, max_size=3)), **draw(common()))


@st.composite
def made_types(draw, parts):
    properties = draw(st.dictionaries(one_of('a', 'x', 'name', 'register', 'validate_'), parts | TYPES, max_size=4))
    return type(types.Type)('Made', (draw(one_of(types.Type, types.Type, Point)),), dict(properties))


VALIDATORS = st.recursive(LEAVES, lambda parts: objects(parts) | arrays(parts) | unions(parts), max_leaves=5)
DECLARED = VALIDATORS | TYPES | made_types(VALIDATORS)


@st.composite
def values(draw, validator, depth=0):
    """A value that is likely to be valid."""
    if depth > 4 or draw(st.integers(0, 11)) == 0:
        return draw(st.sampled_from(OTHERS))
    if isinstance(validator, type):
        value = draw(values(validator.validator, depth))
        return draw(one_of(value, value, instance(validator, value), instance(Flag, value)))
    if validator.allow_null and draw(st.integers(0, 3)) == 0:
        return None
    if isinstance(validator, validators.Object):
        made = {}
        for key, child in validator.properties.items():
            if key in validator.required or draw(maybe):
                made[key] = draw(values(child, depth + 1))
        more = draw(st.dictionaries(one_of('more', 'other'), st.sampled_from(OTHERS), max_size=1))
        return {**made, **{key: more.get(key, 1) for key in validator.required if key not in made}, **more}
    if isinstance(validator, validators.Array):
        items = validator.items if isinstance(validator.items, list) else [validator.items] * draw(st.integers(0, 3))
        return [draw(values(item or validators.Any(), depth + 1)) for item in items]
    if isinstance(validator, validators.Union):
        return draw(values(draw(st.sampled_from(validator.items or [validator.__class__([])])), depth + 1))
    if isinstance(validator, validators.String):
        return draw(one_of(*(validator.enum or ['a', 'AB', 'text']), FORMATS.get(validator.format, 'a'), Colour.RED))
    if isinstance(validator, validators.NumericType):
        return draw(one_of(0, 1, 2, 4, 6, 7, 0.5, 2.0))
    return draw(st.sampled_from(OTHERS) if isinstance(validator, validators.Any) else maybe)


def instance(declared, value):
    """Return an instance, if ``value`` makes one."""
    try:
        return declared(value)
    except Exception:
        return value


def outcome(function, *args):
    """Return the result or the error of a function, with the classes and the order of keys."""
    try:
        return described(function(*args))
    except Exception as exc:
        return (type(exc), getattr(exc, 'detail', str(exc)))


def described(value):
    if isinstance(value, types.Type):
        return (type(value), described(value._dict))
    if type(value) is dict:
        return (dict, [(key, described(item)) for key, item in value.items()])
    if type(value) is list:
        # A default is one object, however often it is taken.
        return (list, id(value) if value == [1] else None, [described(item) for item in value])
    return (type(value), repr(value))


@st.composite
def declared_with_values(draw):
    declared = draw(DECLARED)
    return declared, draw(st.lists(values(declared) | st.sampled_from(OTHERS), min_size=1, max_size=4))


@examples(60, 300)
@given(declared_with_values())
@example((Event, [EVENT, {**EVENT, 'on': None}, {**EVENT, 'tags': ['a', 'a']}]))
@example((validators.Union([validators.Number(), validators.Integer()]), [1, 2.5, 'a']))
@example((validators.Integer(enum=['1']), [1]))
@example((validators.Boolean(), [True, 1]))
@example((validators.Object(properties={'a': Point}, additional_properties=False), [{'a': {'x': 1}}, {'b': 1}]))
@example((validators.Array(items=2 * [validators.Integer()]), [[1, 2], [1, 'a']]))
@example((Shouting(), ['a', 1]))
@example((Lowering, [{'name': 'A'}, Lowering(name='B')]))
def test_received_values_match_api_star(given):
    """Results and errors for received values are those of API Star's validators."""
    declared, received = given
    schema = Schema(declared)
    for value in received:
        assert outcome(schema.decode, value) == outcome(schema._decode_slowly, value)


@examples(60, 300)
@given(declared_with_values(), st.sampled_from(CODECS))
@example((Event, [EVENT, Event(EVENT), {**EVENT, 'at': NOW, 'on': None}, {**EVENT, 'place': Flag(x=1)}]), CODECS[0])
@example((Point, [Point(x=1), Flag(x=1), {'x': 1.0}]), CODECS[1])
def test_sent_values_match_api_star(given, codec):
    """The JSON of sent values is that of API Star's results."""
    declared, sent = given
    schema = Schema(declared)
    for value in sent:
        assert outcome(schema.dumps, codec, value) == outcome(lambda value: codec.dumps(schema.encode(value)), value)


@pytest.mark.parametrize(
    'declared, value',
    [
        (Event, EVENT),
        (Tree, {'name': 'a', 'trees': [{'name': 'b', 'trees': [{'name': 'c'}]}]}),
        (validators.Object(properties={'a': Point}, required=['a'], additional_properties=Point), {'a': {'x': 1}}),
        (validators.Object(pattern_properties={'^a': validators.Integer()}), {'ab': 1}),
        (validators.Array(items=[validators.Integer(), validators.String()]), [1, 'a']),
        (validators.Array(items=Event, max_items=3), [EVENT]),
        (validators.Union([validators.Integer(), validators.String(pattern='^a')]), 'ab'),
        (validators.Number(minimum=0, multiple_of=0.5, allow_null=True), 2.5),
        (validators.Integer(maximum=10**5000), 10**40),
        (validators.Any(), {'a': object}),
    ],
)
def test_valid_values_need_no_validator(declared, value):
    """The compiled function accepts valid values."""
    expected = Schema(declared)._decode_slowly(value)
    assert described(compile_check(declared)(value)) == described(expected)
    assert STANDARD_CODEC.dumps(compile_check(Tree, True)(Tree(name='a'))) == '{"name":"a","trees":[]}'


def test_sent_dates_need_no_validator():
    """The compiled function returns dates and times as text, from values and from instances."""
    expected = {**EVENT, 'place': {'x': 1, 'y': 2.0}}
    assert compile_check(Event, is_sent=True)(EVENT) == compile_check(Event, is_sent=True)(Event(EVENT)) == expected


@pytest.mark.parametrize('value', [{'x': 1.0}, {'x': Colour.RED}, Flag(x=1), None, {'x': -1}, {}, {'x': 1, 2: 3}])
def test_invalid_and_rare_values_are_refused(value):
    """The compiled function raises for invalid values, and for rare valid ones."""
    with pytest.raises((Refused, KeyError)):
        compile_check(Point)(value)


def test_source_is_as_documented():
    """The generated source is the one in the docstring of the module."""

    class Point(types.Type):
        x = validators.Integer(minimum=0)

    compiler = Compiler(False)
    compiler.build(Point)
    assert textwrap.indent('\n'.join(compiler._source), '    ') in module.__doc__


def nested(depth):
    return validators.Array(items=nested(depth - 1) if depth else validators.Integer())


def levels(make, count):
    """Return a type or an object in which each level has four properties of one and the same next level."""
    kind = Point
    for _ in range(count):
        kind = make({'f%d' % number: kind for number in range(4)})
    return kind


@pytest.mark.parametrize(
    'make',
    [
        lambda properties: type(types.Type)('Made', (types.Type,), properties),
        lambda properties: validators.Object(properties=properties),
    ],
)
def test_repeated_types_are_compiled_once(make):
    """The size of the source is linear in the number of types."""
    for is_sent in (False, True):
        compiler = Compiler(is_sent)
        compiler.build(levels(make, 40))
        assert len(compiler._source) < 40 * 30


class Loud(types.Type):
    """A type that overrides the access to its values."""

    name = validators.String()

    def __getitem__(self, key):
        """Return something else; not called here."""


class Clashing(types.Type):
    """A type with a property whose name its class has for something else."""

    has_default = validators.String()


class Meta(type(types.Type)):
    """A metaclass of a user's own."""


class Initial(types.Type):
    """A type that has a default, as a class method."""

    name = validators.String(default='a')

    @classmethod
    def has_default(cls):
        """Have one; not called here."""


def strange(**changes):
    validator = validators.String()
    vars(validator).update(changes)
    return validator


class Open(types.Type):
    """A type that was changed after it was made."""


class Listing(types.Type):
    """A type that was given another kind of validator."""


Open.validator.additional_properties = True
Listing.validator = validators.Array()


class Made(types.Type, metaclass=Meta):
    name = validators.String()


@pytest.mark.parametrize(
    'declared',
    [
        Lowering,
        Loud,
        Clashing,
        Made,
        Initial,
        Open,
        Listing,
        strange(validate=str.upper),
        Shouting(),
        validators.Ref('a'),
        validators.String(pattern='('),
        validators.String(pattern='a{99999999999999999999}'),
        validators.Array(items=Lowering),
        validators.Array(items=Shouting(), unique_items=True),
        validators.Array(items=[Made]),
        validators.Object(properties={'a': Shouting()}),
        validators.Object(pattern_properties={'a': validators.Array(items=validators.Ref('b'))}),
        validators.Union([validators.Integer(), Shouting()]),
        # Python nests 20 loops and 100 blocks.
        nested(30),
        nested(300),
    ],
)
def test_own_validators_are_not_compiled(declared):
    """Types and validators with other methods than API Star's are not compiled."""
    with pytest.raises(NotCompilable):
        compile_check(declared)


def test_immutable_instances_are_not_checked():
    """An instance is checked again only if a value in it can change."""
    point = Point(x=1)
    # This shows whether the value is checked again.
    point._dict['x'] = 'changed'
    assert Schema(Point).dumps(STANDARD_CODEC, point) == '{"x":"changed","y":null}'
    event = Event(EVENT)
    event.tags.append(5)
    with pytest.raises(ValidationError, match='The sent value .Event. is not Event, as declared: .*Must be a string'):
        Schema(Event).dumps(STANDARD_CODEC, event)


@pytest.mark.parametrize('default', [None, 'one', 1.0, NOW])
def test_invalid_defaults_are_checked(default):
    """An instance with an invalid default is checked."""

    class Counted(types.Type):
        count = validators.Integer(default=default)

    schema = Schema(Counted)
    expected = outcome(lambda value: STANDARD_CODEC.dumps(schema.encode(value)), Counted())
    assert outcome(schema.dumps, STANDARD_CODEC, Counted()) == expected


def test_subclass_fields_are_not_sent():
    """An instance of a subclass is sent with the declared fields."""
    assert Schema(Point).dumps(STANDARD_CODEC, Flag(x=1, is_big=True)) == '{"x":1,"y":null}'


def test_formats_may_be_replaced(monkeypatch):
    """A format that is registered later is used."""

    class EMail:
        def is_native_type(self, value):
            return False

        def validate(self, value):
            return value.lower()

        def to_string(self, value):
            return '<%s>' % value

    class Person(types.Type):
        email = validators.String(format='email')

    schema = Schema(Person)
    assert schema.decode({'email': 'ANN'}).email == 'ANN'
    monkeypatch.setitem(validators.FORMATS, 'email', EMail())
    assert schema.decode({'email': 'ANN'}).email == 'ann'
    assert schema.dumps(STANDARD_CODEC, {'email': 'ANN'}) == '{"email":"<ann>"}'


@given(st.from_regex(r'\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,7})?)?(Z|[+-]\d\d:?\d\d)?', fullmatch=True))
@example('2026-11-27T12:30:00.123Z')
@example('2026-11-27T12:30:00.123456')
@example('2026-13-27T12:30:00Z')
@example('2026-W48-5T12:30:00Z')
@example('2026-11-27T24:00:00Z')
def test_timestamps_match_api_star(text):
    """Texts for dates and times are parsed as by API Star."""
    schema = Schema(validators.Array(items=validators.DateTime()))
    assert outcome(schema.decode, [text]) == outcome(schema._decode_slowly, [text])


def test_datetime_format_may_be_replaced(monkeypatch):
    """A replacement of API Star's own format is used."""
    schema = Schema(Event)
    monkeypatch.setitem(validators.FORMATS, 'datetime', type('Never', (type(validators.FORMATS['date']),), {})())
    with pytest.raises(InvalidMessage, match='valid date'):
        schema.decode(EVENT)


def test_defaults_are_not_copied():
    """A default is the same object in all instances."""
    schema = Schema(Event)
    value = {key: EVENT[key] for key in ('at', 'on', 'place')}
    assert schema.decode(value).tags is schema.decode(value).tags is Event.validator.properties['tags'].default


class Counting:
    """A format that counts its calls."""

    looked = 0

    def is_native_type(self, value):
        return False

    def validate(self, value):
        Counting.looked += 1
        return value


def unions_in_unions():
    """Return a type that holds two objects by turns, each of which holds both in a union."""

    class Message(types.Type):
        pass

    choices = [
        validators.Object(properties={key: validators.Integer(), 't': validators.String(format='counted')})
        for key in 'xy'
    ]
    union = validators.Union(choices)
    for choice, key in zip(choices, 'xy'):
        choice.properties['a'] = union
        choice.required = [key]
    Message.validator.properties['a'] = union
    return Message


@pytest.mark.parametrize('last, is_valid', [({'x': 1}, True), ({'y': 1}, True), ({'y': 'wrong'}, False)])
def test_unions_in_unions_take_linear_time(monkeypatch, last, is_valid):
    """Each value is checked a few times, however many unions are around it."""
    monkeypatch.setitem(validators.FORMATS, 'counted', Counting())
    declared = unions_in_unions()
    check, check_sent = compile_check(declared), compile_check(declared, True)
    value = last
    for _ in range(40):
        value = {'a': value, 't': 'text', 'y': 1}
    for function in (check, check_sent, Schema(declared).decode):
        Counting.looked = 0
        assert (outcome(function, {'a': value})[0] in (declared, dict)) is is_valid
        assert Counting.looked <= 4 * 40


@pytest.mark.parametrize('value', [1, 'a', 1.5, None, {'a': 1}, {'a': 'a'}, {'a': 1.5}, {'b': 1}])
def test_unions_in_unions_match_api_star(value):
    """The first union that is compiled has another one in it."""
    inner = validators.Union([validators.Integer(), validators.String()])
    outer = validators.Union([validators.Object(properties={'a': inner}, required=['a']), inner])
    for declared in (outer, validators.Array(items=outer), validators.Object(properties={'a': outer})):
        schema = Schema(declared)
        for data in (value, [value], {'a': value}):
            assert outcome(schema.decode, data) == outcome(schema._decode_slowly, data)
            if declared.is_valid(data):
                assert compile_check(declared, is_sent=True)(data) == declared.validate(data)
