"""JSON Schemas of API Star's validators, which accept the same values."""

import datetime
import json

import jsonschema
import pytest
from apistar import types, validators
from apistar.exceptions import ValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws.asyncapi.jsonschema import Schemas
from tests import sizes
from tests.asyncapi.validators import VALIDATORS

NULL = {'type': 'null'}


class Item(types.Type):
    """One of them."""

    name = validators.String()


class Basket(types.Type):
    items_ = validators.Array(items=Item)
    first = Item


@pytest.mark.parametrize(
    'declared, schema',
    [
        (validators.String(), {'type': 'string'}),
        (validators.String(min_length=1, max_length=5), {'type': 'string', 'minLength': 1, 'maxLength': 5}),
        (validators.String(enum=['a', 'b']), {'type': 'string', 'enum': ['a', 'b']}),
        (
            validators.String(enum=['a'], allow_null=True),
            {'type': ['string', 'null'], 'enum': ['a', None], 'default': None},
        ),
        (validators.String(pattern='^a+$'), {'type': 'string', 'pattern': '^a+$'}),
        (
            validators.String(pattern=r'\Aa'),
            {'type': 'string', 'description': r'Matches /\Aa/, a regular expression of Python.'},
        ),
        (validators.String(title='A', description='B', default='c'),
         {'type': 'string', 'title': 'A', 'description': 'B', 'default': 'c'}),
        (validators.Date(), {'type': 'string', 'format': 'date'}),
        (validators.Time(), {'type': 'string', 'format': 'partial-time'}),
        (validators.DateTime(default=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)),
         {'type': 'string', 'format': 'date-time', 'default': '2026-01-02T00:00:00Z'}),
        (validators.String(format='email'), {'type': 'string', 'format': 'email'}),
        (validators.Integer(), {'type': 'integer'}),
        (validators.Number(minimum=1, maximum=2), {'type': 'number', 'minimum': 1, 'maximum': 2}),
        (validators.Number(minimum=1, exclusive_minimum=True), {'type': 'number', 'exclusiveMinimum': 1}),
        (validators.Number(maximum=1, exclusive_maximum=True), {'type': 'number', 'exclusiveMaximum': 1}),
        (validators.Integer(multiple_of=3), {'type': 'integer', 'multipleOf': 3}),
        (validators.Number(default=float('inf')), {'type': 'number'}),
        (validators.Boolean(), {'type': 'boolean'}),
        (validators.Boolean(allow_null=True), {'type': ['boolean', 'null'], 'default': None}),
        (validators.Object(), {'type': 'object'}),
        (
            validators.Object({'a': validators.Integer()}, required=['a'], additional_properties=False),
            {
                'type': 'object',
                'properties': {'a': {'type': 'integer'}},
                'required': ['a'],
                'additionalProperties': False,
            },
        ),
        (validators.Object(additional_properties=validators.Boolean()),
         {'type': 'object', 'additionalProperties': {'type': 'boolean'}}),
        (validators.Object(pattern_properties={'^a': validators.Any()}, min_properties=1, max_properties=2),
         {'type': 'object', 'patternProperties': {'^a': {}}, 'minProperties': 1, 'maxProperties': 2}),
        (validators.Array(), {'type': 'array'}),
        (validators.Array(items=validators.Integer(), min_items=1, max_items=2, unique_items=True),
         {'type': 'array', 'items': {'type': 'integer'}, 'minItems': 1, 'maxItems': 2, 'uniqueItems': True}),
        (validators.Array(items=[validators.Integer()], additional_items=False),
         {'type': 'array', 'items': [{'type': 'integer'}], 'additionalItems': False}),
        (validators.Array(items=[validators.Integer()], additional_items=validators.String()),
         {'type': 'array', 'items': [{'type': 'integer'}], 'additionalItems': {'type': 'string'}}),
        (validators.Union([validators.Integer(), validators.String()]),
         {'anyOf': [{'type': 'integer'}, {'type': 'string'}]}),
        (validators.Union([validators.Integer(allow_null=True)]),
         {'anyOf': [{'type': ['integer', 'null'], 'default': None}], 'not': {'type': 'null'}}),
        (validators.Union([validators.Integer()], allow_null=True),
         {'anyOf': [{'anyOf': [{'type': 'integer'}], 'default': None}, NULL]}),
        (validators.Any(), {}),
        (validators.Any(allow_null=True), {'default': None}),
    ],
)  # fmt: skip
def test_a_validator_is_described(declared, schema):
    schemas = Schemas()
    assert schemas.of(declared) == schema
    assert schemas.components == {}


def test_types_refer_to_each_other():
    """The schema of a type is a component, and properties refer to it."""
    schemas = Schemas()
    assert schemas.of(Basket) == schemas.of(Basket) == {'$ref': '#/components/schemas/Basket'}
    assert schemas.components == {
        'Basket': {
            'type': 'object',
            'properties': {
                'items_': {'type': 'array', 'items': {'$ref': '#/components/schemas/Item'}},
                'first': {'$ref': '#/components/schemas/Item'},
            },
            'required': ['first', 'items_'],
        },
        'Item': {
            'type': 'object',
            'properties': {'name': {'type': 'string'}},
            'required': ['name'],
            'description': 'One of them.',
        },
    }


def test_equal_names_are_two_components():
    """Two types of the same name have different schemas."""
    schemas = Schemas()
    other = type(types.Type)('Item', (types.Type,), {'count': validators.Integer()})
    assert [schemas.of(kind)['$ref'][-5:] for kind in (Item, other, Item)] == ['/Item', 'Item2', '/Item']


def test_recursive_types_are_described_once():
    """A type that refers to itself has one schema."""
    tree = validators.Object(
        {'children': validators.Array(items=validators.Ref('Tree')), 'parent': validators.Ref('Tree', allow_null=True)},
        def_name='Tree',
    )
    schemas, ref = Schemas(), {'$ref': '#/components/schemas/Tree'}
    assert schemas.of(tree) == ref
    properties = {'children': {'type': 'array', 'items': ref}, 'parent': {'anyOf': [ref, NULL]}}
    assert schemas.components == {'Tree': {'type': 'object', 'properties': properties}}


def test_definitions_are_resolved():
    """A reference in a validator is resolved by its definitions."""
    schemas = Schemas()
    declared = validators.Array(items=validators.Ref('n'), definitions={'n': validators.Integer()})
    assert schemas.of(declared) == {'type': 'array', 'items': {'type': 'integer'}}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-60, 60) | st.sampled_from(['', 'a', 'AB', '12-', 'text', '2026-01-31']),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from(['a', 'b', 'name']), parts, max_size=2),
    max_leaves=5,
)


@sizes.examples(10, 100)
@given(VALIDATORS, VALUES)
@example(validators.Date(), '2026-01-31')
def test_schemas_accept_the_same_values(declared, value):
    """A schema and its validator accept the same values."""
    schema = Schemas().of(declared)
    jsonschema.Draft7Validator.check_schema(schema)
    try:
        declared.validate(value)
    except (ValidationError, ValueError):
        accepted = False
    else:
        accepted = True
    # API Star's formats and its null in an Any are looked at nowhere in a schema.
    if '"format"' not in json.dumps(schema):
        assert jsonschema.Draft7Validator(schema).is_valid(value) is accepted
