"""The JSON codecs: writing, reading and errors."""

import contextlib
import dataclasses
import datetime
import enum
import json
import sys
import uuid
from collections.abc import Mapping
from types import MappingProxyType

import orjson
import pytest
from apistar import types, validators
from apistar.exceptions import ConfigurationError
from hypothesis import given
from hypothesis import strategies as st

from apistar_ws import ASyncApp, InvalidMessage, WebSocket, collect_routes, websocket_route
from apistar_ws.messages.codecs import STANDARD_CODEC, ForeignCodec, StandardCodec, decode_json, json_codec
from apistar_ws.messages.schema import Schema
from apistar_ws.testing import connect


class Order(types.Type):
    item = validators.String(max_length=10)
    count = validators.Integer(minimum=1, default=1)


class Joined(types.Type):
    type = validators.String(enum=['joined'])
    at = validators.DateTime()
    order = Order


AT = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


class Colour(str, enum.Enum):
    RED = 'red'


class Number(enum.IntEnum):
    SEVEN = 7


class OneTwoThree:
    """A codec of the user's own."""

    def dumps(self, value):
        return '123'

    def loads(self, data):
        return 123


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
def test_api_star_types_are_written(codec, value, text):
    """Every codec writes API Star's types, dates and times."""
    assert json_codec(codec).dumps(value) == text


@pytest.mark.parametrize('codec', [json, orjson])
def test_other_keys_become_text(codec):
    """Every codec writes keys that are not text as the standard ``json`` module does."""
    value = {0: 'a', True: 'b', None: 'c', 1.50: 'd', 1e100: 'e', Colour.RED: {Number.SEVEN: 'f', False: 'g'}}
    assert json_codec(codec).dumps(value) == json.dumps(value, separators=(',', ':'))


@pytest.mark.parametrize('key, error', [(float('nan'), ValueError), (float('inf'), ValueError), ((1, 2), TypeError)])
@pytest.mark.parametrize('codec', [json, orjson])
def test_invalid_keys_are_refused(codec, key, error):
    """Every codec refuses the keys that the standard codec refuses."""
    with pytest.raises(error):
        json_codec(codec).dumps({key: 1})


@pytest.mark.parametrize('codec', [json, orjson])
def test_error_details_are_written(codec):
    """Every codec writes the error detail of an array, whose keys are numbers."""
    with pytest.raises(InvalidMessage) as info:
        Schema(validators.Array(items=validators.String())).decode([1])
    assert json_codec(codec).dumps(info.value.detail) == '{"0":"Must be a string."}'


def test_numbers_of_every_kind_are_read():
    assert decode_json(STANDARD_CODEC, '[1, 1.5, -2e3]') == [1, 1.5, -2000.0]


def test_lone_surrogates_are_escaped():
    """A lone surrogate that was received as an escape is sent as one."""
    assert STANDARD_CODEC.dumps(decode_json(STANDARD_CODEC, '"é\\ud800"')) == '"\\u00e9\\ud800"'


@pytest.mark.parametrize('value, error', [(float('nan'), ValueError), (object(), TypeError), ({1, 2}, TypeError)])
def test_values_outside_json_are_refused(value, error):
    """The standard codec refuses NaN, sets and other objects."""
    with pytest.raises(error):
        STANDARD_CODEC.dumps(value)


def test_own_codecs_are_used():
    """An object with ``dumps`` and ``loads`` reads and writes the messages."""
    codec = json_codec(OneTwoThree())
    assert (codec.dumps({}), codec.loads('x')) == ('123', 123)


def test_other_objects_are_refused():
    with pytest.raises(ConfigurationError, match='needs the methods dumps'):
        json_codec(object())


@pytest.mark.parametrize('data', ['{"a":1}', b'{"a":1}'])
@pytest.mark.parametrize('codec', [json, orjson])
def test_text_and_bytes_are_read(codec, data):
    """JSON is read from text and from bytes."""
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
def test_malformed_json_has_a_position(data, detail):
    """The error says what was expected, and where."""
    with pytest.raises(InvalidMessage) as info:
        decode_json(STANDARD_CODEC, data)
    assert (info.value.detail, info.value.reason) == (detail, 'Malformed JSON')


def test_long_errors_are_cut():
    """An error that contains the received text is cut."""
    with pytest.raises(InvalidMessage) as info:
        decode_json(STANDARD_CODEC, '[1.%se999]' % ('1' * 10**5))
    assert 100 < len(info.value.detail) < 300


@pytest.mark.parametrize('data', [b'\xff', '[' * 200_000, '1' * 5000])
def test_hostile_json_is_invalid(data):
    """Invalid UTF-8, deep nesting and huge numbers are invalid messages."""
    with pytest.raises(InvalidMessage, match='^Malformed JSON'):
        decode_json(STANDARD_CODEC, data)


class ForeignJSON:
    """A codec that does not know API Star's types."""

    loads = staticmethod(orjson.loads)
    dumps = staticmethod(json.dumps)


DEEP = {'array': ('[', ']'), 'object': ('{"a":', '}')}


def deepest(codec, begin, end):
    """Return the deepest text that ``codec`` reads."""
    text = begin * 1100 + '1' + end * 1100
    while True:
        try:
            decode_json(codec, text)
        except InvalidMessage:
            text = text[len(begin) : -len(end)]
        else:
            return text


@pytest.mark.parametrize('kind', DEEP)
@pytest.mark.parametrize('codec', [STANDARD_CODEC, json_codec(orjson), json_codec(ForeignJSON())])
def test_whatever_is_read_can_be_written(codec, kind):
    """The deepest value that comes in goes out, also with more calls around it."""
    text = deepest(codec, *DEEP[kind])
    value = decode_json(codec, text)

    def write(calls):
        return write(calls - 1) if calls else [codec.dumps(value), codec.dumps_primitives(value)]

    limit = sys.getrecursionlimit()
    assert [written.replace(' ', '') for written in write(20)] == [text, text]
    assert sys.getrecursionlimit() == limit


async def test_deep_messages_are_echoed():
    """A handler with orjson sends back what it has received, declared or not, and does not fail."""

    @websocket_route('/any', json=orjson)
    async def echo(ws: WebSocket):
        await ws.send_json(await ws.receive_json())

    @websocket_route('/object', json=orjson, receives=validators.Object(), sends=validators.Object())
    async def declared(ws: WebSocket):
        await ws.send(await ws.receive())

    app = ASyncApp(collect_routes(echo, declared))
    for url, levels in (('/any', 300), ('/any', 1000), ('/object', 300)):
        text = '{"a":' * levels + '1' + '}' * levels
        async with connect(app, url) as ws:
            await ws.send(text)
            assert await ws.receive() == text


@pytest.mark.parametrize('levels', [300, 1000])
def test_deep_values_may_contain_types(levels):
    """Other keys, dates and lone surrogates are written where orjson cannot."""
    value = {1: datetime.date(2018, 9, 25), 'half': '\ud800'}
    for _ in range(levels):
        value = [value]
    expected = '[' * levels + r'{"1":"2018-09-25","half":"\ud800"}' + ']' * levels
    assert json_codec(orjson).dumps(value) == expected


def test_other_refusals_of_orjson_stay():
    """Values that are not JSON are refused, declared or not."""
    for write in (json_codec(orjson).dumps, json_codec(orjson).dumps_primitives):
        with pytest.raises(TypeError, match='not JSON serializable'):
            write([object()])


def test_circles_end_without_room_for_them():
    """A value that contains itself is refused, and the recursion limit is restored."""
    circle = []
    circle.append(circle)
    limit = sys.getrecursionlimit()
    for codec in (json_codec(orjson), json_codec(ForeignJSON())):
        with pytest.raises((ValueError, RecursionError)):
            codec.dumps(circle)
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize('codec', [STANDARD_CODEC, json_codec(orjson)])
def test_space_around_json_is_read(codec):
    assert codec.loads(' {"a": 1.5}\n') == {'a': 1.5}


def test_a_circle_is_refused_as_one():
    circle = []
    circle.append(circle)
    with pytest.raises(ValueError, match='Circular reference detected'):
        STANDARD_CODEC.dumps(circle)


class Sibling(Mapping):
    looks = 0

    def __getitem__(self, key):
        Sibling.looks += 1
        return 1

    def __iter__(self):
        return iter(['a'])

    def __len__(self):
        """Be a mapping; not called here."""


def test_circular_references_are_refused():
    """A circular reference is an error, and the next value is written."""
    circle = {'siblings': [Sibling()]}
    circle['self'] = circle
    for _ in range(2):
        Sibling.looks = 0
        with pytest.raises(ValueError, match='Circular reference detected'):
            STANDARD_CODEC.dumps(circle)
        assert Sibling.looks <= 2
    del circle['self']
    assert STANDARD_CODEC.dumps(circle) == '{"siblings":[{"a":1}]}'


def test_interrupted_writes_succeed():
    """Another write in the middle of one does not disturb it."""

    class Disturbing(Sibling):
        def __getitem__(self, key):
            with contextlib.suppress(TypeError):
                STANDARD_CODEC.dumps([object()])
            return 1

    assert STANDARD_CODEC.dumps([[Disturbing()]]) == '[[{"a":1}]]'


class MultiDict(dict):
    """A dict with other values in ``__getitem__`` than in ``items``."""

    def __getitem__(self, key):
        return super().__getitem__(key)[0]


@pytest.mark.parametrize('codec', [STANDARD_CODEC, json_codec(orjson)])
def test_dict_subclasses_are_written(codec):
    """A dict whose items differ from its values is written as by the codec alone."""
    expected = '{"a":[1]}' if codec is STANDARD_CODEC else '{"a":1}'
    assert codec.dumps(MultiDict(a=[1])) == expected


def test_c_accelerator_is_optional(monkeypatch):
    """JSON is written without the C accelerator too."""
    monkeypatch.setattr('json.encoder.c_make_encoder', None)
    order = Order(item='é')
    assert StandardCodec().dumps([order, 1.5, None]) == STANDARD_CODEC.dumps([order, 1.5, None])


@dataclasses.dataclass
class Meeting:
    at: datetime.datetime


WRITTEN = st.recursive(
    st.sampled_from([None, True, 1, 2**70, 1.5, 'é', '\ud800', float('nan'), AT, AT.date(), AT.timetz(), Colour.RED])
    | st.sampled_from(
        [Order(item='tea'), Joined(type='joined', at=AT, order={'item': 'x'}), Meeting(AT), uuid.UUID(int=5)]
    ),
    lambda parts: (
        st.lists(parts, max_size=3)
        | st.tuples(parts)
        | st.dictionaries(st.sampled_from(['a', 1, None, 1.5, Colour.RED]), parts, max_size=2)
        | parts.map(lambda part: MappingProxyType({'held': part}))
    ),
    max_leaves=6,
)


@given(WRITTEN)
def test_orjson_writes_the_same_json(value):
    """orjson writes the same with and without conversion beforehand."""
    assert outcome(json_codec(orjson).dumps, value) == outcome(ForeignCodec(orjson).dumps, value)


def outcome(function, value):
    try:
        return function(value)
    except Exception as exc:
        return type(exc)


@pytest.mark.parametrize(
    'value, standard, other',
    [
        (float('nan'), ValueError, 'null'),
        (float('-inf'), ValueError, 'null'),
        (2**63, '9223372036854775808', '9223372036854775808'),
        (2**64, '18446744073709551616', TypeError),
        ('\ud800', '"\\ud800"', TypeError),
    ],
)
def test_orjson_output_is_as_documented(value, standard, other):
    assert outcome(STANDARD_CODEC.dumps, value) == standard
    found = outcome(json_codec(orjson).dumps, value)
    assert found == other or issubclass(found, other)


@pytest.mark.parametrize(
    'text, standard, other',
    [
        ('NaN', InvalidMessage, InvalidMessage),
        ('[-Infinity]', InvalidMessage, InvalidMessage),
        ('1e999', InvalidMessage, InvalidMessage),
        ('18446744073709551616', 2**64, 2.0**64),
        ('1' * 400, int('1' * 400), InvalidMessage),
        ('"\\ud800"', '\ud800', InvalidMessage),
        ('{"a": 1, "a": 2}', {'a': 2}, {'a': 2}),
    ],
)
def test_orjson_input_is_as_documented(text, standard, other):
    def read(codec):
        return outcome(lambda text: decode_json(codec, text), text)

    assert [repr(read(STANDARD_CODEC)), repr(read(json_codec(orjson)))] == [repr(standard), repr(other)]
