"""Random validators and types of API Star."""

from typing import Any

from apistar import types, validators
from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec='utf-8', exclude_categories=['Cs']), max_size=6)
NAMES = st.from_regex('[a-z][a-z_]{0,5}', fullmatch=True)
PATTERNS = ['^[A-Z]{2,4}$', r'^\d+-\d*$', '[^a-z]x', '^(ab|c)+$', r'^[\w.]+@[\w.]+$', '^a{3}.?$', r'^\S+\s\S+$', '']


def optional(strategy: Any) -> Any:
    return st.none() | strategy


@st.composite
def strings(draw: Any) -> Any:
    kind = draw(st.sampled_from(['plain', 'length', 'enum', 'pattern', 'format']))
    if kind == 'enum':
        return validators.String(enum=draw(st.lists(TEXTS, min_size=1, max_size=3)), allow_null=draw(st.booleans()))
    if kind == 'pattern':
        return validators.String(pattern=draw(st.sampled_from(PATTERNS)))
    if kind == 'format':
        return draw(st.sampled_from([validators.Date, validators.Time, validators.DateTime]))()
    if kind == 'length':
        least = draw(st.integers(0, 8))
        return validators.String(min_length=least, max_length=least + draw(st.integers(0, 5)), title=draw(TEXTS))
    return validators.String(description=draw(TEXTS), allow_null=draw(st.booleans()))


@st.composite
def numbers(draw: Any) -> Any:
    made = draw(st.sampled_from([validators.Integer, validators.Number]))
    low = draw(optional(st.integers(-50, 50)))
    high = None if low is None else low + draw(st.integers(4, 60))
    step = draw(st.sampled_from([None, None, 2, 3]))
    return made(
        minimum=low, maximum=draw(st.sampled_from([None, high])), exclusive_minimum=draw(st.booleans()),
        exclusive_maximum=draw(st.booleans()), multiple_of=step, allow_null=draw(st.booleans()),
    )  # fmt: skip


LEAVES = strings() | numbers() | st.builds(validators.Boolean, allow_null=st.booleans()) | st.builds(validators.Any)


@st.composite
def objects(draw: Any, parts: Any) -> Any:
    properties = draw(st.dictionaries(NAMES, parts, max_size=3))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    more = draw(st.sampled_from([True, None, validators.String()]))
    return validators.Object(properties=properties, required=required, additional_properties=more)


@st.composite
def arrays(draw: Any, parts: Any) -> Any:
    if draw(st.booleans()):
        items = draw(st.lists(parts, min_size=1, max_size=3))
        return validators.Array(items=items, additional_items=draw(st.booleans()))
    least = draw(st.integers(0, 3))
    return validators.Array(items=draw(parts), min_items=least, max_items=least + draw(st.integers(1, 3)))


def unions(parts: Any) -> Any:
    return st.lists(parts, min_size=1, max_size=3).map(lambda items: validators.Union(items))


VALIDATORS = st.recursive(LEAVES, lambda parts: objects(parts) | arrays(parts) | unions(parts), max_leaves=6)


@st.composite
def message_types(draw: Any, kind: str = '') -> Any:
    """A ``types.Type``, with a constant ``type`` for lists of types."""
    properties = draw(st.dictionaries(NAMES.filter(lambda name: name not in RESERVED), VALIDATORS, max_size=3))
    constant = {'type': validators.String(enum=[kind])} if kind else {}
    name = draw(st.sampled_from(['Order', 'Note', 'Bid', 'Say']))
    return type(types.Type)(name, (types.Type,), {'__doc__': draw(TEXTS), **constant, **properties})


RESERVED = ('keys', 'items', 'values', 'get', 'validator', 'type', 'validate')
