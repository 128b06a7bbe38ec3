"""JSON: what becomes of API Star's types in it, the codecs, and what they refuse."""

import datetime
import json
import sys
import threading
from json import encoder
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Sequence, TypeVar, Union

from apistar import validators
from apistar.exceptions import ConfigurationError

from apistar_ws.exceptions import InvalidMessage

T = TypeVar('T')

#: Calls for the levels of a value that was read: 1024 by orjson, two for each in ``primitive``.
_EXTRA_CALLS = 3000
#: The limit is the process's.
_LIMIT_LOCK = threading.Lock()
_MAX_FLOAT = sys.float_info.max
#: Characters that are shown of the error of a codec.
_MAX_ERROR = 200
_FORMAT_NAMES = {datetime.datetime: 'datetime', datetime.date: 'date', datetime.time: 'time'}


class Codec(Protocol):
    """What ``WebSocketComponent(json=...)`` takes: the ``json`` module, ``orjson``, or any object like them.

    Give an object of your own to change how values become JSON and back.
    """

    def dumps(self, value: Any, /) -> Union[str, bytes]:
        """Return ``value`` as JSON."""

    def loads(self, data: Union[str, bytes], /) -> Any:
        """Return the value of the JSON ``data``; raise ``ValueError`` where it is not JSON."""


def primitive(value: Any) -> Any:
    """Return ``value`` with API Star's types, dates, times and keys in it turned into what JSON knows.

    Call it before a codec that knows nothing of API Star.

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
    """Return ``key`` as the standard ``json`` module writes it; what it refuses is left for the codec to refuse."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None or isinstance(key, (int, float)):
        return json.dumps(key, allow_nan=False)
    return key


def _primitive_object(value: Any) -> Any:
    """Return an object that JSON does not know as one that it does; the ``default`` of the standard encoder."""
    converted = primitive(value)
    if converted is value:
        raise TypeError('Object of type %r is not JSON serializable.' % type(value).__name__)
    return converted


def _refuse_constant(name: str) -> Any:
    """Refuse ``NaN`` and the infinities, which Python reads and JSON does not have (RFC 8259 section 6)."""
    raise ValueError('%s is not a JSON value' % name)


def _finite_float(text: str) -> float:
    """Return the number that ``text`` writes, unless it is too large and would become an infinity."""
    value = float(text)
    if -_MAX_FLOAT <= value <= _MAX_FLOAT:
        return value
    raise ValueError('%s is too large a number' % text)


def _json_encoder(ensure_ascii: bool) -> Callable[[Any], str]:
    """Return what writes JSON, compact and without NaN."""
    return json.JSONEncoder(
        ensure_ascii=ensure_ascii, allow_nan=False, separators=(',', ':'), default=_primitive_object
    ).encode


def _chunk_encoder(encode: Callable[[Any], str], inside: Dict[int, Any]) -> Callable[[Any, int], Sequence[str]]:
    """Return what writes JSON in chunks as ``encode`` does, which makes such an encoder anew for each value.

    :param inside: where it notes what it is in the middle of, to find circles; it stays there if it fails.
    """
    make: Any = vars(encoder)['c_make_encoder']
    if make is None:
        return lambda value, level: (encode(value),)
    chunks: Callable[[Any, int], Sequence[str]] = make(
        inside, _primitive_object, encoder.encode_basestring, None, ':', ',', False, False, False
    )
    return chunks


def _is_encodable(text: str) -> bool:
    """Return whether UTF-8 can encode ``text``: it cannot where a lone surrogate came in by an escape of JSON."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_higher_limit(func: Callable[[Any], T], value: Any) -> T:
    """Return ``func(value)``, with a higher limit of recursion where it takes that: what was read can be sent."""
    try:
        return func(value)
    except RecursionError:
        """It was read with fewer calls around it, or takes more of them to write."""
    with _LIMIT_LOCK:
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + _EXTRA_CALLS)
        try:
            return func(value)
        finally:
            sys.setrecursionlimit(limit)


class StandardCodec:
    """JSON by the standard library, written as API Star writes it: compact, in UTF-8, without NaN.

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
        text = self._written(value)
        if text is None:
            # Another thread may have been inside; this one says what is wrong, if something is.
            text = _with_higher_limit(self._encode, value)
        return text if _is_encodable(text) else _with_higher_limit(self._escape, value)

    dumps_primitives = dumps

    def _written(self, value: Any) -> Optional[str]:
        try:
            return ''.join(self._chunks(value, 0))
        except Exception:
            self._inside.clear()
            return None

    def loads(self, data: Union[str, bytes]) -> Any:
        """Return the value of the JSON ``data``; raise ``ValueError`` where it is not JSON."""
        text = data if isinstance(data, str) else data.decode()
        try:
            value, end = self._decode_first(text)
        except ValueError:
            end = -1
        # Otherwise there is space around it, or it is not JSON.
        return value if end == len(text) else self._decode(text)


class ForeignCodec:
    """Lets a codec that knows nothing of API Star's types stand where :class:`StandardCodec` does.

    Made by the settings for what ``WebSocketComponent(json=...)`` was given.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.loads = codec.loads

    def dumps(self, value: Any) -> str:
        """Return ``value`` as JSON text."""
        return self.dumps_primitives(_with_higher_limit(primitive, value))

    def dumps_primitives(self, value: Any) -> str:
        """Return as JSON text what holds nothing but what JSON knows."""
        data = _with_higher_limit(self._codec.dumps, value)
        return data if isinstance(data, str) else data.decode()


class _OrjsonCodec(ForeignCodec):
    """orjson, which asks for what it does not know, so that nothing has to be copied beforehand."""

    def __init__(self, orjson: Any) -> None:
        super().__init__(orjson)
        self._dumps = orjson.dumps
        # What it would write by itself, and otherwise than it is written of a copy.
        self._option = (
            orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
        )

    def dumps(self, value: Any) -> str:
        """Return ``value`` as JSON text."""
        try:
            text: str = self._dumps(value, _primitive_object, self._option).decode()
        except TypeError as exc:
            if _is_too_deep(exc):
                return STANDARD_CODEC.dumps(value)
            # It holds a key that is no text, or what is not JSON.
        else:
            return text
        return super().dumps(value)

    def dumps_primitives(self, value: Any) -> str:
        """Return as JSON text what holds nothing but what JSON knows."""
        try:
            text: str = self._codec.dumps(value).decode()  # type: ignore[union-attr]
        except TypeError as exc:
            if _is_too_deep(exc):
                return STANDARD_CODEC.dumps(value)
            raise
        return text


def _is_too_deep(exc: TypeError) -> bool:
    """Return whether orjson could not write a value because of its depth: it reads 1024 levels, and writes 254."""
    return 'Recursion limit' in str(exc)


JSONCodec = Union[StandardCodec, ForeignCodec]
STANDARD_CODEC = StandardCodec()


def json_codec(codec: Any) -> JSONCodec:
    """Return the codec that stands behind ``WebSocketComponent(json=codec)``.

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

    :raises InvalidMessage: where it is not JSON, with API Star's detail: what was expected, and the position.
    """
    try:
        return codec.loads(data)
    except (ValueError, RecursionError) as exc:
        # An error may show all of what the client sent.
        raise InvalidMessage('Malformed JSON. %.*s' % (_MAX_ERROR, exc), reason='Malformed JSON') from None
