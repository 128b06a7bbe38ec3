"""Examples of messages, and placeholders in them."""

import contextlib

import jsonschema
import pytest
from apistar import types, validators
from hypothesis import given

from apistar_ws.asyncapi.examples import NoExample, example_of
from apistar_ws.asyncapi.jsonschema import Schemas
from tests import sizes
from tests.asyncapi.validators import VALIDATORS, message_types

#: Refers to itself, so that no value is valid.
LOOP = validators.Object({'a': validators.Ref('a')}, required=['a'], definitions={'a': validators.Ref('a')})


class Item(types.Type):
    name = validators.String(max_length=3)
    note = validators.String(allow_null=True)


@pytest.mark.parametrize(
    'declared, example',
    [
        (validators.String(), 'text'),
        (validators.String(max_length=2), 'te'),
        (validators.String(min_length=6), 'textxx'),
        (validators.String(default='x'), 'x'),
        (validators.String(format='email'), 'ann@example.com'),
        (validators.Integer(minimum=5), 5),
        (validators.Integer(maximum=-3), -3),
        (validators.Number(minimum=0, maximum=1, exclusive_minimum=True, exclusive_maximum=True), 0.5),
        (validators.Integer(minimum=10, multiple_of=7), 14),
        (validators.Boolean(), True),
        (validators.Array(items=validators.String(), min_items=2, unique_items=True), ['text', 'tex1']),
        (validators.Array(items=validators.Integer(multiple_of=5), min_items=3, unique_items=True), [0, 5, 10]),
        (validators.Array(items=validators.Boolean(), min_items=2, unique_items=True), [True, False]),
        (validators.Array(items=validators.String(enum=['a', 'b']), min_items=2, unique_items=True), ['a', 'b']),
        (validators.Array(items=validators.String(max_length=1), min_items=2, unique_items=True), ['t', '1']),
        (validators.Array(max_items=0), []),
        (validators.Array(items=LOOP), []),
        (validators.String(pattern='^[a-z]+$'), 'text'),
        (validators.Array(items=[validators.Integer()], min_items=2, additional_items=True), [1, 1]),
        (validators.Object(min_properties=2), {'name1': 'text', 'name2': 'text'}),
        (validators.Object(required=['a'], additional_properties=validators.Integer()), {'a': 1}),
        (validators.Object({'a': validators.Integer(), 'b': validators.Integer()}, max_properties=1), {'a': 1}),
        (validators.Union([LOOP, validators.Integer()]), 1),
        (validators.Any(), {}),
        (Item, {'name': 'tex', 'note': 'text'}),
        (validators.Array(items=validators.Ref('n'), definitions={'n': validators.Integer()}), [1]),
    ],
)
def test_examples_are_short_and_plain(declared, example):
    assert example_of(declared) == (example, True)


def test_recursive_examples_end():
    tree = validators.Object({'children': validators.Array(items=validators.Ref('Tree'))}, def_name='Tree')
    example = example_of(tree).value
    while example:
        example = example['children'][0]
    assert example == {}


@pytest.mark.parametrize(
    'declared',
    [
        LOOP,
        validators.String(pattern='('),
        validators.Integer(minimum=1, maximum=1, exclusive_minimum=True),
        validators.Array(items=LOOP, min_items=1),
        validators.Union([LOOP]),
        validators.Any(default={('a',): 1}),
    ],
)
def test_missing_examples_are_reported(declared):
    with pytest.raises(NoExample):
        example_of(declared)


@pytest.mark.parametrize(
    'declared, example',
    [
        (validators.String(pattern=r'^\d+$'), r'<matches ^\d+$>'),
        (validators.Array(items=validators.String(pattern='^x')), ['<matches ^x>']),
        (validators.Object({'code': validators.String(pattern='[A-Z]{3}')}), {'code': '<matches [A-Z]{3}>'}),
        (validators.String(max_length=2, enum=['long']), 'long'),
        (validators.Array(items=validators.Object(), min_items=2, unique_items=True), [{}, {}]),
    ],
)
def test_placeholders_are_not_valid(declared, example):
    assert example_of(declared) == (example, False)


@sizes.examples(10, 100)
@given(VALIDATORS)
def test_valid_examples_fit_their_schema(declared):
    with contextlib.suppress(NoExample):
        example = example_of(declared)
        assert not example.is_valid or jsonschema.Draft7Validator(Schemas().of(declared)).is_valid(example.value)


@sizes.examples(10, 100)
@given(message_types())
def test_types_have_examples(declared):
    with contextlib.suppress(NoExample):
        example_of(declared)
