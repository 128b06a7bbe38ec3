import datetime
import enum
import json
from typing import Union

import orjson
import pytest
from apistar import types, validators
from apistar.exceptions import ConfigurationError, ValidationError
from hypothesis import given
from hypothesis import strategies as st

from apistar_ws import InvalidMessage
from apistar_ws.messages import STANDARD_CODEC, Schema, decode_json, json_codec, primitive, with_unique_items


class Order(types.Type):
    item = validators.String(max_length=10)
    count = validators.Integer(minimum=1, default=1)


class Joined(types.Type):
    type = validators.String(enum=['joined'])
    at = validators.DateTime()
    order = Order


class Left(types.Type):
    type = validators.String(enum=['left'])


class Untyped(types.Type):
    type = validators.String(enum=['a', 'b'])


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


class OneTwoThree:
    """A codec of the user's own."""

    def dumps(self, value):
        return '123'

    def loads(self, data):
        return 123


AT = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    'value, text',
    [
        ({'a': [1, None, True]}, '{"a":[1,null,true]}'),
        ('é', '"é"'),
        (Order(item='tea'), '{"item":"tea","count":1}'),
        ([Order(item='tea')], '[{"item":"tea","count":1}]'),
        (
            Joined(type='joined', at=AT, order={'item': 'tea'}),
            '{"order":{"item":"tea","count":1},"type":"joined","at":"2020-01-02T03:04:05Z"}',
        ),
        ({'at': AT}, '{"at":"2020-01-02T03:04:05Z"}'),
        ({'on': datetime.date(2020, 1, 2), 'time': datetime.time(3, 4)}, '{"on":"2020-01-02","time":"03:04:00"}'),
    ],
)
@pytest.mark.parametrize('codec', [json, orjson])
def test_every_codec_writes_api_stars_types_dates_and_times(codec, value, text):
    assert json_codec(codec).dumps(value) == text


class Colour(str, enum.Enum):
    RED = 'red'


class Number(enum.IntEnum):
    SEVEN = 7


@pytest.mark.parametrize('codec', [json, orjson])
def test_every_codec_writes_keys_that_are_no_strings_as_the_standard_json_module_does(codec):
    value = {0: 'a', True: 'b', None: 'c', 1.50: 'd', 1e100: 'e', Colour.RED: {Number.SEVEN: 'f', False: 'g'}}
    assert json_codec(codec).dumps(value) == json.dumps(value, separators=(',', ':'))


@pytest.mark.parametrize('key, error', [(float('nan'), ValueError), (float('inf'), ValueError), ((1, 2), TypeError)])
@pytest.mark.parametrize('codec', [json, orjson])
def test_every_codec_refuses_keys_that_the_standard_codec_refuses(codec, key, error):
    with pytest.raises(error):
        json_codec(codec).dumps({key: 1})


@pytest.mark.parametrize('codec', [json, orjson])
def test_every_codec_writes_the_detail_of_an_invalid_item_of_an_array(codec):
    with pytest.raises(InvalidMessage) as info:
        Schema(validators.Array(items=validators.String())).decode([1])
    assert json_codec(codec).dumps(info.value.detail) == '{"0":"Must be a string."}'


def test_numbers_of_every_kind_are_read():
    assert decode_json(STANDARD_CODEC, '[1, 1.5, -2e3]') == [1, 1.5, -2000.0]


def test_a_lone_surrogate_that_came_in_by_an_escape_goes_out_by_one():
    assert STANDARD_CODEC.dumps(decode_json(STANDARD_CODEC, '"é\\ud800"')) == '"\\u00e9\\ud800"'


@pytest.mark.parametrize('value, error', [(float('nan'), ValueError), (object(), TypeError), ({1, 2}, TypeError)])
def test_the_standard_codec_refuses_what_json_does_not_have(value, error):
    with pytest.raises(error):
        STANDARD_CODEC.dumps(value)


def test_a_codec_of_the_users_own_reads_and_writes():
    codec = json_codec(OneTwoThree())
    assert (codec.dumps({}), codec.loads('x')) == ('123', 123)


def test_what_is_no_codec_is_refused():
    with pytest.raises(ConfigurationError, match='needs the methods dumps'):
        json_codec(object())


@pytest.mark.parametrize('data', ['{"a":1}', b'{"a":1}'])
@pytest.mark.parametrize('codec', [json, orjson])
def test_json_is_read_from_text_and_from_bytes(codec, data):
    assert decode_json(json_codec(codec), data) == {'a': 1}


@pytest.mark.parametrize(
    'data, detail',
    [
        ('', 'Malformed JSON. Expecting value: line 1 column 1 (char 0)'),
        ('{"a":\n 1', "Malformed JSON. Expecting ',' delimiter: line 2 column 3 (char 8)"),
        ('[1e999]', 'Malformed JSON. 1e999 is too large a number'),
        ('NaN', 'Malformed JSON. NaN is not a JSON value'),
        ('[-Infinity]', 'Malformed JSON. -Infinity is not a JSON value'),
    ],
)
def test_what_is_not_json_is_named_with_its_position(data, detail):
    with pytest.raises(InvalidMessage) as info:
        decode_json(STANDARD_CODEC, data)
    assert (info.value.detail, info.value.reason) == (detail, 'Malformed JSON')


@pytest.mark.parametrize('data', [b'\xff', '[' * 200_000, '1' * 5000])
def test_hostile_json_is_an_invalid_message_like_any_other(data):
    with pytest.raises(InvalidMessage, match='^Malformed JSON'):
        decode_json(STANDARD_CODEC, data)


def test_a_type_makes_validated_instances():
    order = Schema(Order).decode({'item': 'tea', 'count': 2})
    assert isinstance(order, Order)
    assert (order.item, order.count) == ('tea', 2)


def test_a_validator_makes_values():
    assert Schema(validators.Array(items=validators.Integer())).decode([1, 2]) == [1, 2]


def test_a_list_of_types_is_told_apart_by_type():
    for declared in ([Joined, Left], Union[Joined, Left]):
        told_apart(Schema(declared))


def told_apart(schema):
    assert isinstance(schema.decode({'type': 'left'}), Left)
    assert isinstance(schema.decode({'type': 'joined', 'at': '2020-01-01T00:00:00Z', 'order': {'item': 'x'}}), Joined)


@pytest.mark.parametrize(
    'declared, data, detail, reason',
    [
        (Order, {}, {'item': 'The "item" field is required.'}, 'Invalid message: item'),
        (
            Order,
            {'item': 'x' * 11, 'count': 0},
            {'item': 'Must have no more than 10 characters.', 'count': 'Must be greater than or equal to 1.'},
            'Invalid message: item, count',
        ),
        (Order, [], 'Must be an object.', 'Must be an object.'),
        (Order, None, 'Must be an object.', 'Must be an object.'),
        (validators.Integer(), 'x', 'Must be a number.', 'Must be a number.'),
        ([Joined, Left], {}, {'type': 'The "type" field is required.'}, 'Invalid message: type'),
        ([Joined, Left], {'type': 'x'}, {'type': "Must be one of ['joined', 'left']."}, 'Invalid message: type'),
        ([Joined, Left], {'type': []}, {'type': 'Must be a string.'}, 'Invalid message: type'),
        ([Joined, Left], 'left', 'Must be an object.', 'Must be an object.'),
        (validators.Date(), '2020-99-99', 'Must be a valid value.', 'Must be a valid value.'),
        (validators.Number(), 10**400, 'Must be a valid value.', 'Must be a valid value.'),
    ],
)
def test_an_invalid_message_has_api_stars_detail_field_by_field(declared, data, detail, reason):
    with pytest.raises(InvalidMessage) as info:
        Schema(declared).decode(data)
    assert (info.value.detail, info.value.reason) == (detail, reason)


@pytest.mark.parametrize(
    'declared, value',
    [
        (Order, {'item': 'tea'}),
        (Order, Order(item='tea')),
        ([Joined, Left], Left(type='left')),
        ([Joined, Left], {'type': 'left'}),
        (validators.String(), 'text'),
    ],
)
def test_what_is_sent_is_validated(declared, value):
    assert primitive(Schema(declared).encode(value)) == primitive(Schema(declared).encode(primitive(value)))


def test_what_was_not_declared_cannot_be_sent():
    for declared, value, text in [
        (
            Order,
            {'count': 1},
            r"^What is sent \(dict\) is not Order, as declared: \{'item': 'The \"item\" field is required.'\}$",
        ),
        (Order, 5, r'^What is sent \(int\) is not Order, as declared: Must be an object.$'),
        ([Joined, Left], Order(item='tea'), r'^What is sent \(Order\) is not Joined or Left, as declared: '),
        (validators.Integer(), 'a', r'^What is sent \(str\) is not Integer, as declared: '),
    ]:
        with pytest.raises(ValidationError, match=text):
            Schema(declared).encode(value)


@pytest.mark.parametrize(
    'declared, problem',
    [
        (str, "^<class 'str'> is no message type: give a types.Type, a validator of apistar.validators, or a list"),
        ([Order], 'each needs a constant type property'),
        ([Untyped], 'each needs a constant type property'),
        ([Left, validators.String()], 'each needs a constant type property'),
        ([Left, Left], "Left and Left have the same constant type 'left'"),
    ],
)
def test_what_cannot_be_a_message_type_is_refused(declared, problem):
    with pytest.raises(ConfigurationError, match=problem):
        Schema(declared)


class TestUniqueItems:
    """Arrays with ``unique_items``: API Star's own check fails with an AssertionError on all but what JSON knows."""

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

    def test_items_that_are_equal_have_api_stars_detail(self):
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
    def test_they_are_decoded_wherever_they_are(self, around, data, value):
        assert Schema(around(self.array(validators.Date()))).decode(data) == value

    @pytest.mark.parametrize('declared', [Calendar, [Calendar, Left]])
    def test_they_are_decoded_in_a_type_whose_instances_are_of_that_very_type(self, declared):
        data = {'type': 'calendar', 'days': ['2020-01-01'], 'holidays': [{'name': 'a'}]}
        calendar = Schema(declared).decode(data)
        assert (type(calendar), calendar.days, calendar.holidays) == (Calendar, [self.DAY], [Holiday(name='a')])
        assert vars(calendar).keys() == {'_dict'}
        assert self.detail(declared, {**data, 'days': ['2020-01-01'] * 2}) == {'days': {1: 'This item is not unique.'}}

    def test_they_are_decoded_in_a_type_within_a_type(self):
        class Year(types.Type):
            calendar = Calendar
            more = validators.Array(items=Calendar)

        data = {'type': 'calendar', 'days': ['2020-01-01']}
        year = Schema(Year).decode({'calendar': data, 'more': [data]})
        assert (type(year.calendar), year.calendar.days, year.more[0].days) == (Calendar, [self.DAY], [self.DAY])
        assert self.detail(Year, {'calendar': 1}).keys() == {'calendar', 'more'}

    def test_they_can_be_sent(self):
        calendar = Schema(Calendar).decode({'type': 'calendar', 'days': ['2020-01-01']})
        text = '{"type":"calendar","days":["2020-01-01"],"holidays":[]}'
        assert STANDARD_CODEC.dumps(Schema(Calendar).encode(calendar)) == text
        assert STANDARD_CODEC.dumps(Schema([Calendar, Left]).encode({'type': 'calendar', 'days': [self.DAY]})) == text

    def test_each_array_within_an_array_counts_its_own_items(self):
        tree = self.array(validators.Integer() | validators.Ref('tree'), def_name='tree')
        assert Schema(tree).decode([1, [1, 2], [1]]) == [1, [1, 2], [1]]
        assert self.detail(self.array(self.array(), max_items=1), [[1, 1]]) == {0: {1: 'This item is not unique.'}}

    def test_an_error_of_the_users_own_is_kept(self):
        class Days(validators.Array):
            errors = {**validators.Array.errors, 'unique_items': 'Each day once.'}

        days = Days(items=validators.Date(), unique_items=True)
        assert self.detail(days, ['2020-01-01', '2020-01-01']) == {1: 'Each day once.'}

    def test_in_a_type_with_a_validation_of_its_own_they_are_an_invalid_message(self):
        data = {'type': 'calendar', 'days': ['2020-01-01']}
        assert self.detail(Cautious, data) == 'Must be a valid value.'
        assert Schema(Cautious).decode({**data, 'days': []}).days == []

    def test_in_a_type_that_holds_itself_they_are_decoded_or_an_invalid_message(self):
        class Node(types.Type):
            days = validators.Array(items=validators.Date(), unique_items=True)

        Node.validator.properties['nodes'] = validators.Array(items=Node, default=[])
        assert Schema(Node).decode({'days': ['2020-01-01']}).days == [self.DAY]
        assert self.detail(Node, {'days': [], 'nodes': [{'days': ['2020-01-01']}]}) == 'Must be a valid value.'

    def test_a_declaration_that_cannot_be_is_still_an_error_of_the_program(self):
        with pytest.raises(AssertionError, match='not in definitions'):
            Schema(validators.Array(items=validators.Ref('nowhere'))).decode([1])

    def test_a_declaration_without_them_is_used_as_it_is(self):
        for declared in (Order, Joined, validators.Array(items=Order), validators.Object(properties={'a': Order})):
            assert with_unique_items(declared) is declared

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
    def test_what_api_star_can_compare_gives_its_result_and_its_detail(self, items, additional_items, options, data):
        array = self.array(items, additional_items=additional_items, **options)
        assert with_unique_items(array) is not array
        outcomes = []
        for validator in (array, with_unique_items(array)):
            try:
                outcomes.append(repr(validator.validate(data)))
            except ValidationError as exc:
                outcomes.append(exc.detail)
        assert outcomes[0] == outcomes[1]
