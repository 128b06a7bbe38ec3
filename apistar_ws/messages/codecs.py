"""JSON codecs, and the conversion of API Star's types to values of JSON."""

import datetime
import json
import sys
import threading
from json import encoder
from typing import Any, Callable, Dict, Mapping, Protocol, Sequence, TypeVar, Union

from apistar import validators
from apistar.exceptions import ConfigurationError

from apistar_ws.exceptions import InvalidMessage

T = TypeVar('T')

#: Nested calls for the deepest value that orjson reads: 1024 levels, with two calls for each in ``primitive``.
_EXTRA_CALLS = 3000
#: Held while the recursion limit, which is global, is changed.
_LIMIT_LOCK = threading.Lock()
_MAX_FLOAT = sys.float_info.max
#: Characters of the error of a codec that are shown.
_MAX_ERROR = 200
_FORMAT_NAMES = {datetime.datetime: 'datetime', datetime.date: 'date', datetime.time: 'time'}


class Codec(Protocol):
    """The argument of ``WebSocketComponent(json=...)``: the ``json`` module, ``orjson``, or an object like them.

    Pass your own object to change how values are encoded and decoded.
    """

    def dumps(self, value: Any, /) -> Union[str, bytes]:
        """Return ``value`` as JSON."""

    def loads(self, data: Union[str, bytes], /) -> Any:
        """Return the value of the JSON ``data``; raise ``ValueError`` if it is not JSON."""


def primitive(value: Any) -> Any:
    """Return ``value`` with API Star's types, dates, times and keys in it converted to values of JSON.

    Use it with codecs that do not know API Star's types.

    :raises ValueError: for a key that is NaN or infinite, as the standard codec does.
    """
    if isinstance(value, Mapping):
        return {key if type(key) is str else _json_key(key): primitive(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [primitive(item) for item in value]
    if type(value) in _FORMAT_NAMES:
        return validators.FORMATS[_FORMAT_NAMES[type(value)]].to_string(value)
    return value


def _json_key(key: Any) -> Any:
    """Return ``key`` as the standard ``json`` module writes it, or unchanged if it is not a valid key."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (int, float)):
        return json.dumps(key, allow_nan=False)
    return key


def _primitive_object(value: Any) -> Any:
    """Convert an object that is not a value of JSON; the ``default`` of the standard encoder."""
    converted = primitive(value)
    if converted is value:
        raise TypeError('Object of type %r is not JSON serializable.' % type(value).__name__)
    return converted


def _refuse_constant(name: str) -> Any:
    """Refuse ``NaN`` and the infinities, which Python accepts although they are not JSON (RFC 8259 section 6)."""
    raise ValueError('%s is not a JSON value' % name)


def _finite_float(text: str) -> float:
    """Return the number for ``text``, unless it is so large that it would become infinite."""
    value = float(text)
    if -_MAX_FLOAT <= value <= _MAX_FLOAT:
        return value
    raise ValueError('%s is too large a number' % text)


def _json_encoder(ensure_ascii: bool) -> Callable[[Any], str]:
    """Return the ``encode`` method of a compact encoder that refuses NaN."""
    return json.JSONEncoder(
        ensure_ascii=ensure_ascii, allow_nan=False, separators=(',', ':'), default=_primitive_object
    ).encode


def _chunk_encoder(encode: Callable[[Any], str], inside: Dict[int, Any]) -> Callable[[Any, int], Sequence[str]]:
    """Return an encoder that returns chunks of JSON. It is made once, while ``encode`` makes one for each value.

    :param inside: the objects that are being encoded, by id, to find circular references; not emptied on errors.
    """
    make: Any = vars(encoder)['c_make_encoder']
    if make is None:
        return lambda value, level: (encode(value),)
    chunks: Callable[[Any, int], Sequence[str]] = make(
        inside, _primitive_object, encoder.encode_basestring, None, ':', ',', False, False, False
    )
    return chunks


def _is_encodable(text: str) -> bool:
    """Return whether UTF-8 can encode ``text``, which may have a lone surrogate from an escape sequence of JSON."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_higher_limit(func: Callable[[Any], T], value: Any) -> T:
    """Return ``func(value)``, with a higher recursion limit if necessary: any value that was read can be written."""
    try:
        return func(value)
    except RecursionError:
        """It was read at a lower call depth, or needs more calls to write than to read."""
    with _LIMIT_LOCK:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + _EXTRA_CALLS)
        try:
            return func(value)
        finally:
            sys.setrecursionlimit(limit)


class StandardCodec:
    """The standard library's JSON, as API Star writes it: compact, in UTF-8, without NaN.

    The default of ``WebSocketComponent(json=...)``.
    """

    def __init__(self) -> None:
        self._encode = _json_encoder(ensure_ascii=False)
        self._inside: Dict[int, Any] = {}
        self._chunks = _chunk_encoder(self._encode, self._inside)
        self._escape = _json_encoder(ensure_ascii=True)
        decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite_float)
        self._decode, self._decode_first = decoder.decode, decoder.raw_decode

    def dumps(self, value: Any) -> str:
        """Return ``value`` as JSON text."""
        text = None
        try:
            text = ''.join(self._chunks(value, 0))
        except Exception:
            self._inside.clear()
        if text is None:
            # Another thread may be encoding the same object; if it is not JSON, this encoder raises the error.
            text = _with_higher_limit(self._encode, value)
        return text if _is_encodable(text) else _with_higher_limit(self._escape, value)

    dumps_primitives = dumps

    def loads(self, data: Union[str, bytes]) -> Any:
        """Return the value of the JSON ``data``; raise ``ValueError`` if it is not JSON."""
        text = data if isinstance(data, str) else data.decode()
        try:
            value, end = self._decode_first(text)
        except ValueError:
            end = -1
        # Otherwise there is whitespace around it, or it is not JSON.
        return value if end == len(text) else self._decode(text)


class ForeignCodec:
    """Adapts a codec that does not know API Star's types to the methods of :class:`StandardCodec`.

    :param codec: the argument of ``WebSocketComponent(json=...)``.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.loads = codec.loads

    def dumps(self, value: Any) -> str:
        """Return ``value`` as JSON text."""
        return self.dumps_primitives(_with_higher_limit(primitive, value))

    def dumps_primitives(self, value: Any) -> str:
        """Return as JSON text a value that consists of values of JSON."""
        data = _with_higher_limit(self._codec.dumps, value)
        return data if isinstance(data, str) else data.decode()


class _OrjsonCodec(ForeignCodec):
    """orjson, which converts API Star's types by a callback, so that values need not be copied."""

    def __init__(self, orjson: Any) -> None:
        super().__init__(orjson)
        self._dumps = orjson.dumps
        # Types that orjson would write differently from ``primitive``.
        self._option = (
            orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
        )

    def dumps(self, value: Any) -> str:
        """Return ``value`` as JSON text."""
        try:
            data: bytes = self._dumps(value, _primitive_object, self._option)
        except TypeError:
            """It is too deep, has a key that is not text, or is not JSON."""
        else:
            return data.decode()
        return super().dumps(value)

    def dumps_primitives(self, value: Any) -> str:
        """Return as JSON text a value that consists of values of JSON."""
        try:
            data: bytes = self._codec.dumps(value)  # type: ignore[assignment]
        except TypeError as exc:
            # orjson reads 1024 levels, and writes 254.
            if 'Recursion limit' in str(exc):
                return STANDARD_CODEC.dumps(value)
            raise
        return data.decode()


JSONCodec = Union[StandardCodec, ForeignCodec]
STANDARD_CODEC = StandardCodec()


def json_codec(codec: Any) -> JSONCodec:
    """Return the codec for ``WebSocketComponent(json=codec)``.

    :raises ConfigurationError: if it lacks ``dumps`` or ``loads``.
    """
    if codec is json or isinstance(codec, StandardCodec):
        return STANDARD_CODEC
    if getattr(codec, '__name__', '') == 'orjson':
        return _OrjsonCodec(codec)
    if callable(getattr(codec, 'dumps', None)) and callable(getattr(codec, 'loads', None)):
        return ForeignCodec(codec)
    raise ConfigurationError('json=%r needs the methods dumps(value) and loads(data).' % (codec,))


def decode_json(codec: JSONCodec, data: Union[str, bytes]) -> Any:
    """Return the value of the JSON ``data``.

    :raises InvalidMessage: if it is not JSON, with API Star's detail: the expected token and its position.
    """
    try:
        return codec.loads(data)
    except (ValueError, RecursionError) as exc:
        # The error may contain the whole message.
        raise InvalidMessage('Malformed JSON. %.*s' % (_MAX_ERROR, exc), reason='Malformed JSON') from None
