"""Examples: each is accepted by what it was made from."""

import contextlib
import re

import jsonschema
import pytest
from apistar import types, validators
from hypothesis import given

from apistar_ws.asyncapi.examples import NoExample, example_of, matching
from apistar_ws.asyncapi.jsonschema import Schemas
from tests import sizes
from tests.asyncapi.validators import VALIDATORS, message_types


class Item(types.Type):
    name = validators.String(max_length=3)
    note = validators.String(allow_null=True)


@pytest.mark.parametrize(
    'declared, example',
    [
        (validators.String(), 'text'),
        (validators.String(max_length=2), 'te'),
        (validators.String(min_length=6), 'textte'),
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
        (validators.Array(items=validators.String(pattern='(?=x)y')), []),
        (validators.Array(items=[validators.Integer()], min_items=2, additional_items=True), [1, 1]),
        (validators.Object(min_properties=2), {'name1': 'text', 'name2': 'text'}),
        (validators.Object(required=['a'], additional_properties=validators.Integer()), {'a': 1}),
        (validators.Object({'a': validators.Integer(), 'b': validators.Integer()}, max_properties=1), {'a': 1}),
        (validators.Union([validators.String(pattern='(?=x)y'), validators.Integer()]), 1),
        (validators.Any(), {}),
        (Item, {'name': 'tex', 'note': 'text'}),
        (validators.Array(items=validators.Ref('n'), definitions={'n': validators.Integer()}), [1]),
    ],
)
def test_an_example_is_short_and_plain(declared, example):
    assert example_of(declared) == example


def test_what_holds_itself_is_followed_as_far_as_it_must():
    tree = validators.Object({'children': validators.Array(items=validators.Ref('Tree'))}, def_name='Tree')
    example = example_of(tree)
    while example:
        example = example['children'][0]
    assert example == {}


@pytest.mark.parametrize(
    'declared',
    [
        validators.String(pattern='^(?=x)y$'),
        validators.String(pattern='('),
        validators.String(pattern=r'(a)\1'),
        validators.String(pattern=r'[^\s\S]'),
        validators.String(max_length=2, enum=['long']),
        validators.Integer(minimum=1, maximum=1, exclusive_minimum=True),
        validators.Array(items=validators.Ref('n'), min_items=1, definitions={'n': validators.Ref('n')}),
        validators.Array(items=validators.Object(), min_items=2, unique_items=True),
        validators.Object({'a': validators.Ref('a')}, required=['a'], definitions={'a': validators.Ref('a')}),
        validators.Union([validators.String(pattern='(?=x)y')]),
        validators.Any(default={('a',): 1}),
    ],
)
def test_where_none_is_found_that_is_said(declared):
    with pytest.raises(NoExample):
        example_of(declared)


@pytest.mark.parametrize(
    'pattern, least, text',
    [
        ('^[A-Z]{3}-[0-9]+$', 0, 'AAA-0'),
        (r'^\d+$', 4, '0000'),
        (r'\w\W\s\S\D', 0, 'a- aa'),
        ('[^a]', 0, 'b'),
        (r'[^a-z\d]', 0, 'A'),
        (r'[^\D5]', 0, '0'),
        ('^(foo|bar)$', 0, 'foo'),
        ('a.c', 5, 'aacaa'),
        ('^a*?$', 0, 'a'),
        (r'[\d]x', 0, '0x'),
        ('x?', 0, 'x'),
        ('[^x]y', 0, 'ay'),
        ('[^abc]', 0, 'x'),
    ],
)
def test_a_text_is_found_for_a_pattern(pattern, least, text):
    assert matching(pattern, least) == text
    assert re.search(pattern, text)


@sizes.examples(10, 100)
@given(VALIDATORS)
def test_an_example_is_valid_by_its_validator_and_by_its_schema(declared):
    with contextlib.suppress(NoExample):
        example = example_of(declared)
        declared.validate(example)
        assert jsonschema.Draft7Validator(Schemas().of(declared)).is_valid(example)


@sizes.examples(10, 100)
@given(message_types())
def test_an_example_of_a_type_is_valid(declared):
    with contextlib.suppress(NoExample):
        declared.validate(example_of(declared))
