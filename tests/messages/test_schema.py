"""Declared message types: decoding, encoding and errors."""

import datetime
from typing import Union

import pytest
from apistar import types, validators
from apistar.exceptions import ConfigurationError, ValidationError

from apistar_ws import InvalidMessage
from apistar_ws.messages.codecs import STANDARD_CODEC, primitive
from apistar_ws.messages.schema import Schema


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


AT = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


def test_a_type_makes_validated_instances():
    order = Schema(Order).decode({'item': 'tea', 'count': 2})
    assert isinstance(order, Order)
    assert (order.item, order.count) == ('tea', 2)


def test_a_validator_makes_values():
    assert Schema(validators.Array(items=validators.Integer())).decode([1, 2]) == [1, 2]


def test_lists_are_distinguished_by_type():
    """The constant ``type`` property decides which type of a list is used."""
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
def test_error_details_are_api_stars(declared, data, detail, reason):
    """An invalid message has API Star's error detail for each field."""
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


def test_errors_have_no_context():
    """The traceback does not show the attempt before."""
    for fails in (lambda: Schema(Order).dumps(STANDARD_CODEC, {}), lambda: STANDARD_CODEC.dumps([object()])):
        with pytest.raises((ValidationError, TypeError)) as info:
            fails()
        assert info.value.__context__ is None


def test_undeclared_values_cannot_be_sent():
    """The error names the type of the value and the declaration."""
    for declared, value, text in [
        (
            Order,
            {'count': 1},
            r"^The sent value \(dict\) is not Order, as declared: \{'item': 'The \"item\" field is required.'\}$",
        ),
        (Order, 5, r'^The sent value \(int\) is not Order, as declared: Must be an object.$'),
        ([Joined, Left], Order(item='tea'), r'^The sent value \(Order\) is not Joined or Left, as declared: '),
        (validators.Integer(), 'a', r'^The sent value \(str\) is not Integer, as declared: '),
    ]:
        with pytest.raises(ValidationError, match=text):
            Schema(declared).encode(value)


@pytest.mark.parametrize(
    'declared, problem',
    [
        (str, "^<class 'str'> is not a message type: use a types.Type, a validator of apistar.validators, or a list"),
        ([Order], 'each needs a constant type property'),
        ([Untyped], 'each needs a constant type property'),
        ([Left, validators.String()], 'each needs a constant type property'),
        ([Left, Left], "Left and Left have the same constant type 'left'"),
    ],
)
def test_other_declarations_are_refused(declared, problem):
    """The error says which declarations are possible."""
    with pytest.raises(ConfigurationError, match=problem):
        Schema(declared)
