import datetime
import json
from typing import Union

import orjson
import pytest
from apistar import types, validators
from apistar.exceptions import ConfigurationError, ValidationError

from apistar_ws import InvalidMessage
from apistar_ws.messages import STANDARD_CODEC, Schema, decode_json, json_codec, primitive


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
    with pytest.raises(ValidationError):
        Schema(Order).encode({'count': 1})
    with pytest.raises(ValidationError):
        Schema([Joined, Left]).encode(Order(item='tea'))


@pytest.mark.parametrize(
    'declared, problem',
    [
        (str, 'A message type is a types.Type, a validator, or a list of types.Types'),
        ([Order], 'each needs a constant type property'),
        ([Untyped], 'each needs a constant type property'),
        ([Left, validators.String()], 'each needs a constant type property'),
        ([Left, Left], "Left and Left have the same constant type 'left'"),
    ],
)
def test_what_cannot_be_a_message_type_is_refused(declared, problem):
    with pytest.raises(ConfigurationError, match=problem):
        Schema(declared)
