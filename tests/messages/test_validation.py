"""Validation of messages: API Star's results and errors, in time linear in the size of the message."""

import datetime

import pytest
from apistar import types, validators
from apistar.exceptions import ValidationError
from hypothesis import assume, example, given
from hypothesis import strategies as st

from apistar_ws import InvalidMessage
from apistar_ws.messages.codecs import STANDARD_CODEC
from apistar_ws.messages.compiler import NotCompilable, compile_check
from apistar_ws.messages.schema import Schema
from apistar_ws.messages.validation import MAX_CHARACTERS, MAX_ERRORS, Identities, Validation, bounded, checker
from tests.sizes import examples


def test_nullable_object_may_be_none():
    """An object that may be null passes, where its patterns keep it from being compiled."""
    check = checker(
        validators.Array(items=validators.Object(pattern_properties={'^a': validators.Integer()}, allow_null=True))
    )
    assert check([None, {'a': 1}]) == [None, {'a': 1}]


class Order(types.Type):
    item = validators.String(max_length=10)
    count = validators.Integer(minimum=1, default=1)


class Joined(types.Type):
    type = validators.String(enum=['joined'])
    at = validators.DateTime()
    order = Order


class Holiday(types.Type):
    name = validators.String(default='holiday')
    at = validators.DateTime(default=None, allow_null=True)


class Calendar(types.Type):
    type = validators.String(enum=['calendar'])
    days = validators.Array(items=validators.Date(), unique_items=True)
    holidays = validators.Array(items=Holiday, unique_items=True, default=[])


class Cautious(Calendar):
    """Validates in a way of its own."""

    @classmethod
    def validate(cls, value, definitions=None, allow_coerce=False):
        return super().validate(value, definitions, allow_coerce)


AT = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


class Left(types.Type):
    type = validators.String(enum=['left'])


class TestUniqueItems:
    """Arrays with ``unique_items``: API Star's own check fails for values that are not JSON."""

    DAY = datetime.date(2020, 1, 1)
    A = {'a': ['2020-01-01']}

    def array(self, items=None, **options):
        return validators.Array(items=items, unique_items=True, **options)

    def detail(self, declared, data):
        with pytest.raises(InvalidMessage) as info:
            Schema(declared).decode(data)
        return info.value.detail

    def test_dates_and_times_are_decoded(self):
        assert Schema(self.array(validators.Date())).decode(['2020-01-01']) == [self.DAY]
        assert Schema(self.array(validators.DateTime())).decode(['2020-01-02T03:04:05Z']) == [AT]
        assert Schema(self.array(validators.Time())).decode(['03:04', '03:05'])[0] == datetime.time(3, 4)

    def test_types_are_decoded(self):
        holidays = Schema(self.array(Holiday)).decode([{'name': 'a'}, {'name': 'b'}, {'at': '2020-01-02T03:04:05Z'}])
        assert [type(holiday) for holiday in holidays] == [Holiday] * 3
        assert holidays[2].at == AT

    def test_equal_items_are_refused(self):
        """The error detail is API Star's."""
        dates, error = self.array(validators.Date()), 'This item is not unique.'
        assert self.detail(dates, ['2020-01-01', '2020-1-1', 'x']) == {1: error, 2: 'Must be a valid date.'}
        assert self.detail(self.array(Holiday), [{}, {'name': 'holiday'}, {'name': 'x'}]) == {1: error}
        moments = [{'at': '2020-01-02T03:04:05Z'}, {'at': '2020-01-02T04:04:05+01:00'}]
        assert self.detail(self.array(Holiday), moments) == {1: error}

    @pytest.mark.parametrize(
        'around, data, value',
        [
            (lambda dates: validators.Object(properties={'a': dates}), A, {'a': [DAY]}),
            (lambda dates: validators.Object(pattern_properties={'a': dates}), A, {'a': [DAY]}),
            (lambda dates: validators.Object(additional_properties=dates), A, {'a': [DAY]}),
            (lambda dates: validators.Array(items=dates), [['2020-01-01']], [[DAY]]),
            (lambda dates: validators.Array(items=[dates], unique_items=True), [['2020-01-01']], [[DAY]]),
            (lambda dates: validators.Array(items=[], additional_items=dates), [['2020-01-01']], [[DAY]]),
            (lambda dates: validators.Integer() | dates, ['2020-01-01'], [DAY]),
            (lambda dates: validators.Object({'a': validators.Ref('d')}, definitions={'d': dates}), A, {'a': [DAY]}),
        ],
    )
    def test_nested_arrays_are_decoded(self, around, data, value):
        """Arrays in all kinds of validators are decoded."""
        assert Schema(around(self.array(validators.Date()))).decode(data) == value

    @pytest.mark.parametrize('declared', [Calendar, [Calendar, Left]])
    def test_types_keep_their_class(self, declared):
        """An instance is of the declared class, without more attributes."""
        data = {'type': 'calendar', 'days': ['2020-01-01'], 'holidays': [{'name': 'a'}]}
        calendar = Schema(declared).decode(data)
        assert (type(calendar), calendar.days, calendar.holidays) == (Calendar, [self.DAY], [Holiday(name='a')])
        assert vars(calendar).keys() == {'_dict'}
        assert self.detail(declared, {**data, 'days': ['2020-01-01'] * 2}) == {'days': {1: 'This item is not unique.'}}

    def test_nested_types_are_decoded(self):
        """Arrays in types within types are decoded."""

        class Year(types.Type):
            calendar = Calendar
            more = validators.Array(items=Calendar)

        data = {'type': 'calendar', 'days': ['2020-01-01']}
        year = Schema(Year).decode({'calendar': data, 'more': [data]})
        assert (type(year.calendar), year.calendar.days, year.more[0].days) == (Calendar, [self.DAY], [self.DAY])
        assert self.detail(Year, {'calendar': 1}).keys() == {'calendar', 'more'}

    def test_unique_items_can_be_sent(self):
        """Instances and values are sent."""
        calendar = Schema(Calendar).decode({'type': 'calendar', 'days': ['2020-01-01']})
        text = '{"type":"calendar","days":["2020-01-01"],"holidays":[]}'
        assert STANDARD_CODEC.dumps(Schema(Calendar).encode(calendar)) == text
        assert STANDARD_CODEC.dumps(Schema([Calendar, Left]).encode({'type': 'calendar', 'days': [self.DAY]})) == text

    def test_nested_arrays_are_independent(self):
        """Items of different arrays may be equal."""
        tree = self.array(validators.Integer() | validators.Ref('tree'), def_name='tree')
        assert Schema(tree).decode([1, [1, 2], [1]]) == [1, [1, 2], [1]]
        assert self.detail(self.array(self.array(), max_items=1), [[1, 1]]) == {0: {1: 'This item is not unique.'}}

    def test_own_error_texts_are_kept(self):
        """A subclass may replace the texts of errors."""

        class Days(validators.Array):
            errors = {**validators.Array.errors, 'unique_items': 'Each day once.'}

        days = Days(items=validators.Date(), unique_items=True)
        assert self.detail(days, ['2020-01-01', '2020-01-01']) == {1: 'Each day once.'}

    def test_own_validate_fails_safely(self):
        """In a type that overrides ``validate`` they are an invalid message."""
        data = {'type': 'calendar', 'days': ['2020-01-01']}
        assert self.detail(Cautious, data) == 'Must be a valid value.'
        assert Schema(Cautious).decode({**data, 'days': []}).days == []

    def test_recursive_types_are_decoded(self):
        """A type that contains itself is decoded."""

        class Node(types.Type):
            days = validators.Array(items=validators.Date(), unique_items=True)

        Node.validator.properties['nodes'] = validators.Array(items=Node, default=[])
        assert Schema(Node).decode({'days': ['2020-01-01']}).days == [self.DAY]
        assert Schema(Node).decode({'days': [], 'nodes': [{'days': ['2020-01-01']}]}).nodes[0].days == [self.DAY]
        data = {'days': [], 'nodes': [{'days': ['2020-01-01', '2020-01-01']}]}
        assert self.detail(Node, data) == {'nodes': {0: {'days': {1: 'This item is not unique.'}}}}

    def test_invalid_declarations_are_errors(self):
        """A reference without a definition is an error of the program."""
        with pytest.raises(AssertionError, match='not in definitions'):
            Schema(validators.Array(items=validators.Ref('nowhere'))).decode([1])

    JSON = st.recursive(
        st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, 1.5, '', '1']),
        lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(['a', 'b']), values, max_size=2),
    )
    ITEMS = st.sampled_from([
        None, validators.Any(), validators.Integer(), validators.Number(allow_null=True),
        validators.String() | validators.Boolean(), validators.Array(unique_items=True),
        validators.Object(additional_properties=validators.Integer()),
    ])  # fmt: skip

    @given(
        ITEMS | st.lists(ITEMS.filter(bool), max_size=2),
        st.sampled_from([None, True, False, validators.Integer(), Order]),
        st.sampled_from([{}, {'min_items': 1}, {'max_items': 3}, {'allow_null': True}]),
        st.lists(JSON, max_size=4) | JSON,
    )
    def test_results_match_api_star(self, items, additional_items, options, data):
        """Where API Star can compare the items, results and details are its own."""
        array = self.array(items, additional_items=additional_items, **options)
        outcomes = []
        for validate in (array.validate, checker(array)):
            try:
                outcomes.append(repr(validate(data)))
            except ValidationError as exc:
                outcomes.append(exc.detail)
        assert outcomes[0] == outcomes[1]


def test_listed_items_are_unique():
    """Arrays with a list of validators may have ``unique_items``."""
    dates = validators.Array(items=2 * [validators.Date()], additional_items=False, unique_items=True)
    check = checker(dates)
    assert check(['2020-01-01', '2020-01-02'])[1] == datetime.date(2020, 1, 2)
    for wrong in (2 * ['2020-01-01'], ['2020-01-01', '2020-01-02', '2020-01-03']):
        with pytest.raises(validators.ValidationError):
            check(wrong)


class Reversed(validators.Array):
    """An array with a ``validate`` of its own, which uses API Star's."""

    def validate(self, value, definitions=None, allow_coerce=False):
        return (super().validate(value, definitions, allow_coerce=True) or [])[::-1]


class Small(validators.Object):
    """An object that overrides ``validate``, and has an attribute."""

    calls = 0

    def validate(self, value, definitions=None, allow_coerce=False):
        self.calls += 1
        made = super().validate(value, definitions, allow_coerce)
        if made is not None and 'b' in made:
            raise ValidationError({'b': 'Not here.'})
        return made


class Choice(validators.Union):
    """A union that overrides ``validate``, with another error."""

    def validate(self, value, definitions=None, allow_coerce=False):
        try:
            return super().validate(value, definitions, allow_coerce)
        except ValidationError:
            raise ValidationError('None of them.') from None


class Named(types.Type):
    """A type with an ``__init__`` of its own."""

    a = validators.Union([validators.Integer(), validators.Ref('Named')])
    b = validators.Any(default=None)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.b = 'named'


class Slotted(validators.Array):
    """An array for which nothing can stand during a message."""

    __slots__ = ('slot',)


class Strict(Slotted):
    def validate(self, value, definitions=None, allow_coerce=False):
        return super().validate(value, definitions, allow_coerce)


class Stock(types.Type):
    """A stock type, with a reference to itself."""

    a = validators.Ref('Stock') | validators.Integer()


KEYS = st.sampled_from(['a', 'b', 'ab'])
LEAVES = st.sampled_from([
    validators.Integer(), validators.Integer(allow_null=True), validators.String(max_length=1), validators.Any(),
    validators.Any(default=1), validators.Ref('a'), validators.Ref('b'), validators.String(pattern='('),
])  # fmt: skip
NAMED = st.fixed_dictionaries({'allow_null': st.booleans(), 'def_name': st.sampled_from([None, 'a', 'b'])})


@st.composite
def objects(draw, parts):
    return draw(st.sampled_from([validators.Object, validators.Object, Small]))(
        properties=draw(st.dictionaries(KEYS, parts | st.sampled_from([Named, Stock]), max_size=2)),
        pattern_properties=draw(st.dictionaries(st.sampled_from(['a', 'b', '^a']), parts, max_size=2)),
        additional_properties=draw(st.sampled_from([True, False, None]) | parts),
        required=draw(st.lists(KEYS, max_size=1)), max_properties=draw(st.sampled_from([None, None, 2])),
        min_properties=draw(st.sampled_from([None, None, 1, 2])),
        definitions=draw(st.dictionaries(st.sampled_from('ab'), parts, max_size=2)), **draw(NAMED),
    )  # fmt: skip


@st.composite
def arrays(draw, parts):
    return draw(st.sampled_from([validators.Array, validators.Array, Reversed, Strict]))(
        items=draw(st.none() | parts | parts | st.lists(parts, max_size=2) | st.just(Named)),
        additional_items=draw(st.sampled_from([True, False, None, Named]) | parts), unique_items=draw(st.booleans()),
        min_items=draw(st.sampled_from([None, None, 1, 2])), max_items=draw(st.sampled_from([None, None, 2])),
        **draw(NAMED),
    )  # fmt: skip


@st.composite
def unions(draw, parts):
    kind = draw(st.sampled_from([validators.Union, validators.Union, Choice]))
    return kind(draw(st.lists(parts, max_size=3)), **draw(NAMED))


DECLARED = st.recursive(LEAVES, lambda parts: objects(parts) | arrays(parts) | unions(parts), max_leaves=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, 1.5, '', '1', 'ab']),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(KEYS | st.just(1), values, max_size=2),
    max_leaves=8,
)


def outcome(validate, value):
    """Return the result or the error for a value, with the order of keys."""
    try:
        return shown(validate(value))
    except ValidationError as exc:
        return ('invalid', shown(exc.detail), getattr(exc.detail, 'code', None))
    except RecursionError:
        return 'too deep'
    except Exception as exc:
        return (type(exc), str(exc))


def shown(value):
    if isinstance(value, types.Type):
        return (type(value), sorted(vars(value)), shown(value._dict))
    if isinstance(value, dict):
        return [(key, shown(item)) for key, item in value.items()]
    return [shown(item) for item in value] if isinstance(value, list) else (type(value), repr(value))


LOOP = validators.Object(properties={'a': validators.Ref('a')}, definitions={'a': validators.Ref('a')})
#: Of the references in it, each is to what was met last.
CHANGING = validators.Object(
    properties={
        'a': validators.Union([validators.Object(def_name='a', properties={'b': validators.Integer()})]),
        'b': validators.Union([validators.Object({'b': validators.Ref('a')}, def_name='b'), validators.Ref('a')]),
        'ab': validators.Array(def_name='a', items=validators.Ref('b')),
    }
)
INNER = validators.Object(def_name='a', properties={'a': validators.Integer()})
#: The second object has to know what the first one has met on the way.
LEARNT = validators.Union(
    [
        validators.Object(properties={'a': INNER, 'b': validators.Integer()}),
        validators.Object(properties={'a': INNER, 'b': validators.Ref('a')}),
    ]
)


@examples(300, 3000)
@given(DECLARED | st.sampled_from([Named, Stock]), VALUES)
@example(LOOP, {'a': 1})
@example(CHANGING, {'a': {'b': 1}, 'b': {'b': {'b': 'x'}}, 'ab': [1]})
@example(LEARNT, {'a': {'a': 1}, 'b': {'a': 1}})
@example(validators.Union([INNER, INNER]), {'a': 'x'})
@example(Small(), {'b': 1})
@example(Named, {'a': {'a': 1}})
@example(Stock, {'a': {'a': 1}})
@example(validators.Object(properties={'a': Named, 'b': Stock}), {'a': {'a': 1}, 'b': {'a': 1}})
@example(validators.Array(allow_null=True), None)
@example(validators.Array(min_items=1), [])
@example(validators.Array(min_items=2), [1])
@example(validators.Array(max_items=1), [1, 2])
@example(validators.Array(min_items=1, max_items=1), [1, 2])
@example(validators.Array(items=[validators.Any()], additional_items=False), [1, 2])
@example(validators.Object(min_properties=1), {})
@example(validators.Object(max_properties=1), {'a': 1, 'b': 2})
@example(validators.Object(min_properties=2, allow_null=True), {'a': 1})
@example(validators.Object(pattern_properties={'a': validators.Integer(), 'b': validators.String()}), {'ab': 1})
@example(validators.Union([Reversed(items=[validators.Integer()]), Small()]), ['1'])
def test_results_and_errors_are_api_stars(declared, value):
    """Results, errors and their order are the same, wherever API Star has a result."""
    expected = outcome(declared.validate, value)
    assume(expected != (AssertionError, ''))
    assert outcome(checker(declared), value) == expected


class Meta(type(types.Type)):
    """A metaclass with a ``__call__`` of its own."""

    def __call__(cls, *args, **kwargs):
        return [super().__call__(*args, **kwargs)]


class Wrapped(types.Type, metaclass=Meta):
    a = validators.Integer()


class Cached(types.Type):
    """A type with a ``__new__`` of its own."""

    a = validators.Integer()

    def __new__(cls, value, **options):
        return super().__new__(cls) if value != {'a': 0} else 'nothing'


class Static(types.Type):
    """A type with another kind of ``validate``."""

    a = validators.Integer()

    @staticmethod
    def validate(value, definitions=None, allow_coerce=False):
        return [value, allow_coerce]


class Duck:
    """A validator that is not API Star's, without a ``__dict__``."""

    __slots__ = ()

    def validate(self, value, definitions=None, allow_coerce=False):
        return [value]

    def has_default(self):
        return False


@pytest.mark.parametrize('part', [Wrapped, Cached, Static, Duck, Duck()])
@pytest.mark.parametrize('value', [{'a': 1}, {'a': 0}, {'a': 'x'}])
def test_own_constructors_match_api_star(part, value):
    """Types and other classes that are made in their own way are made in that way."""
    for declared in (validators.Array(items=part), validators.Object({'a': part, 'b': part})):
        for data in ([value], {'a': value}, {'b': value}):
            expected = outcome(declared.validate, data)
            assert outcome(checker(declared), data) == expected
            with pytest.raises(NotCompilable):
                compile_check(declared)


def test_attributes_of_own_validators_are_kept():
    """Attributes that a validator sets are kept."""
    small = Small()
    checker(validators.Array(items=small))([{}, {}])
    assert small.calls == 2


def test_foreign_subclasses_refuse_to_be_subclassed():
    """A class that cannot be subclassed is used as it is."""

    class Final(validators.Array):
        def __init_subclass__(cls):
            raise TypeError('No.')

        def validate(self, value, definitions=None, allow_coerce=False):
            return super().validate(value, definitions, allow_coerce)

    assert checker(Final(items=validators.Integer()))([1]) == [1]


class Counted(str):
    """A text that counts how often it is hashed."""

    hashed = 0

    def __hash__(self):
        Counted.hashed += 1
        return super().__hash__()


def texts(count):
    Counted.hashed = 0
    return [Counted('k%d' % number) for number in range(count)]


def hashed_by(declared, make):
    """Return how often the texts of a message are hashed for each of them, in a small and in a large message."""
    counts = []
    for count in (50, 400):
        value = make(texts(count))
        Counted.hashed = 0
        outcome(checker(declared), value)
        counts.append(Counted.hashed / count)
    return counts


@pytest.mark.parametrize('others', [True, False, None, validators.String()])
def test_pattern_properties_take_linear_time(others):
    """No set of all keys is built for each key."""
    declared = validators.Object(pattern_properties={'[0-4]$': validators.Integer()}, additional_properties=others)
    for value in (1, 'a'):
        small, large = hashed_by(declared, lambda keys, value=value: dict.fromkeys(keys, value))
        assert large <= small + 1


def test_nested_unique_items_take_linear_time():
    """Items are hashed as often, however many arrays are around them."""
    tree = validators.Array(items=validators.Union([validators.String(), validators.Ref('t')]), unique_items=True)
    tree.def_name = 't'
    for depth in (2, 40):
        value = texts(50)
        for _ in range(depth):
            value = [value]
        Counted.hashed = 0
        checker(tree)(value)
        assert Counted.hashed <= 4 * 50


class Alike(int):
    """A number that counts how often it is compared."""

    compared = 0

    def __eq__(self, other):
        Alike.compared += 1
        return super().__eq__(other)

    __hash__ = int.__hash__


@pytest.mark.parametrize('wrap', [lambda item: item, lambda item: [item], lambda item: {'a': item}])
def test_equal_hashes_take_linear_time(wrap):
    """Numbers that share one hash are not compared with each other."""
    for count in (50, 400):
        Alike.compared = 0
        items = [wrap(Alike(number * (2**61 - 1))) for number in range(count)]
        assert len(checker(validators.Array(unique_items=True))(items)) == count
        assert Alike.compared <= 4 * count


def test_client_chooses_no_hash():
    """Lists and numbers are hashed as text."""
    identities = Identities()
    identities.of([1, 2**61, 1e300, [2, {'a': 3}], True])
    assert {type(key) for key in (*identities._numbers, *identities._others)} == {str}


NAN = float('nan')
UTC, TOKYO = datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=9))
FIRST = datetime.datetime.min


@pytest.mark.parametrize(
    'items, is_unique',
    [
        ([1, 1.0], False), ([0.0, -0.0], False), ([True, 1], True), ([False, 0, 0.5, None, ''], True),
        ([[1], [True]], True), ([[1.0], [1]], False), ([{'a': 1}, {'a': 1.0}], False),
        ([{'a': 1, 'b': 2}, {'b': 2, 'a': 1}], True),
        ([{'a': [1]}, {'a': 1}, ['a', 1], 'a', [], {}, [[]], '[]'], True), ([NAN, NAN], False), ([[NAN], [NAN]], False),
        ([NAN, float('nan')], True), ([10**400, 10**400], False), ([10**400, 10**400 + 1], True),
        ([2**53, 2.0**53], False),
        ([2**53 + 1, 2.0**53], True), ([10**22, 1e22], False), ([float('inf'), 10**400], True), (['1', 1, '1.0'], True),
    ],
)  # fmt: skip
def test_uniqueness_matches_api_star(items, is_unique):
    """Numbers are compared by value, booleans apart, objects in their order, NaN by identity."""
    array = validators.Array(unique_items=True)
    assert array.is_valid(items) is is_unique
    assert (outcome(checker(array), items)[0] != 'invalid') is is_unique


def test_moments_are_unique_by_the_moment():
    """Two spellings of one moment are the same, also at the ends of the calendar."""
    identities = Identities()
    for moments, count in [
        ([AT, AT.astimezone(TOKYO), AT.replace(tzinfo=None)], 2),
        ([FIRST.replace(tzinfo=TOKYO), FIRST.replace(tzinfo=UTC), FIRST, FIRST.date()], 4),
    ]:
        assert len({identities.of(moment) for moment in moments}) == count


class Counting(validators.Integer):
    """A number that counts the calls of ``validate``."""

    asked = 0

    def validate(self, value, definitions=None, allow_coerce=False):
        Counting.asked += 1
        return super().validate(value, definitions, allow_coerce)


def asked_for(declared, value):
    Counting.asked = 0
    return outcome(checker(declared), value), Counting.asked


def recursive_union(wrap=validators.Union):
    """Return a union of two objects, each of which holds the union."""
    choices = [
        validators.Object(properties={'a': validators.Ref('u'), key: Counting()}, required=[key]) for key in 'xy'
    ]
    return validators.Object(
        properties={'u': validators.Ref('u')}, definitions={'u': wrap(choices), 'x': choices[0], 'y': choices[1]}
    )


def chain(key, depth):
    value = {key: 1}
    for _ in range(depth):
        value = {'a': value, key: 1}
    return {'u': value}


@pytest.mark.parametrize('wrap', [validators.Union, Choice])
def test_recursive_unions_take_linear_time(wrap):
    """Each value in a union is checked once by each validator, whether it is valid or not."""
    declared = recursive_union(wrap)
    for key in 'xyz':
        assert outcome(declared.validate, chain(key, 4)) == asked_for(declared, chain(key, 4))[0]
        assert asked_for(declared, chain(key, 80))[1] <= 2 * 81


def test_nested_unions_take_linear_time():
    """Declared without references, too."""
    declared = Counting()
    for _ in range(12):
        declared = validators.Union(
            [validators.Object({'a': declared, key: validators.Integer()}, required=[key]) for key in 'xy']
        )
    value = 1
    for _ in range(12):
        value = {'a': value, 'y': 1}
    assert asked_for(declared, value)[1] == 2


def test_several_patterns_take_linear_time():
    """A key that two patterns match has its value checked once."""
    declared = validators.Object(
        def_name='o', pattern_properties={'a': validators.Ref('o'), '^a': validators.Ref('o'), 'x': Counting()}
    )
    for last in (1, 'wrong'):
        value = {'x': last}
        for _ in range(30):
            value = {'a': value}
        assert asked_for(declared, value)[1] == 1


def test_unneeded_outcomes_are_forgotten():
    """Nothing is kept of the items of an array of unions."""
    validation = Validation()
    validation.check(validators.Array(items=validators.Union([validators.Integer(), validators.Object()])), [{}, {}])
    assert not validation._cache


def detail_of(declared, data):
    with pytest.raises(InvalidMessage) as info:
        Schema(declared).decode(data)
    return info.value


def size_of(detail):
    return len(STANDARD_CODEC.dumps(detail))


class TestDetail:
    """The error detail has API Star's first entries, and is bounded."""

    ARRAY = validators.Array(items=validators.String())
    OBJECT = validators.Object(additional_properties=False)

    @pytest.mark.parametrize(
        'declared, data',
        [
            (ARRAY, 1000 * [1]),
            (validators.Array(items=ARRAY), 300 * [[1, 1]]),
            (OBJECT, dict.fromkeys(map(str, range(1000)), 1)),
            (validators.Object(additional_properties=ARRAY), {'a': 30 * [1], 'b': 1, 'c': 500 * [1]}),
            (validators.Array(items=validators.String(enum=['a' * 1000, 'b'])), 100 * ['c']),
        ],
    )
    def test_first_entries_are_api_stars(self, declared, data):
        with pytest.raises(ValidationError) as info:
            declared.validate(data)
        kept = list(leaves(detail_of(declared, data).detail))
        assert kept == list(leaves(info.value.detail))[: len(kept)]
        assert 10 < len(kept) <= MAX_ERRORS
        assert size_of(detail_of(declared, data).detail) < 2 * MAX_CHARACTERS

    def test_long_keys_are_left_out(self):
        assert detail_of(self.OBJECT, {'a' * 10**5: 1}).detail == 'Must be a valid value.'
        errors = detail_of(self.OBJECT, {'b': 1, 'a' * 10**5: 1, 'c': 1}).detail
        assert errors == {'b': 'Invalid property name.'}
        nested = validators.Object(def_name='o', additional_properties=validators.Ref('o'))
        value = 1
        for _ in range(40):
            value = {1000 * 'k': value}
        assert detail_of(nested, value).detail == 'Must be a valid value.'

    def test_long_sentences_are_cut(self):
        for detail in (10**5 * 'a', {'a': 10**5 * 'a'}):
            assert size_of(bounded(detail)) < 2 * MAX_CHARACTERS
        assert bounded({'a': [1], 'b': {}, 3: 'c'}) == {'a': [1], 3: 'c'}

    def test_later_values_are_still_checked(self):
        """A date that Python refuses is found after any number of errors."""
        array = validators.Array(items=validators.Date())
        assert detail_of(array, [*10**4 * ['x'], '2020-99-99']).detail == 'Must be a valid value.'


def leaves(detail, path=()):
    if not isinstance(detail, dict):
        yield (path, detail)
        return
    for key, part in detail.items():
        yield from leaves(part, (*path, key))
