"""Arrays of unique items that are more than primitives."""

import datetime

import pytest
from apistar import types, validators
from apistar.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from apistar_ws import InvalidMessage
from apistar_ws.messages.codecs import STANDARD_CODEC
from apistar_ws.messages.schema import Schema
from apistar_ws.messages.validation import with_unique_items


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

    def test_in_a_type_that_holds_itself_they_are_decoded_and_the_detail_is_less_exact(self):
        class Node(types.Type):
            days = validators.Array(items=validators.Date(), unique_items=True)

        Node.validator.properties['nodes'] = validators.Array(items=Node, default=[])
        assert Schema(Node).decode({'days': ['2020-01-01']}).days == [self.DAY]
        assert Schema(Node).decode({'days': [], 'nodes': [{'days': ['2020-01-01']}]}).nodes[0].days == [self.DAY]
        data = {'days': [], 'nodes': [{'days': ['2020-01-01', '2020-01-01']}]}
        assert self.detail(Node, data) == 'Must be a valid value.'

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


def test_items_that_are_listed_and_no_others_are_unique_too():
    dates = validators.Array(items=2 * [validators.Date()], additional_items=False, unique_items=True)
    checked = with_unique_items(dates)
    assert checked.validate(['2020-01-01', '2020-01-02'])[1] == datetime.date(2020, 1, 2)
    for wrong in (2 * ['2020-01-01'], ['2020-01-01', '2020-01-02', '2020-01-03']):
        with pytest.raises(validators.ValidationError):
            checked.validate(wrong)
