"""The messages in an engine: the position of each in its group, and its payload for the members."""

import hashlib
import re
import secrets
from typing import Any, NamedTuple, Optional

from apistar import types

from apistar_ws.messages.codecs import JSONCodec
from apistar_ws.types import Data

#: The first byte of a payload; another one is of a version that this one cannot read.
PAYLOAD_VERSION = b'1'
TEXT, BYTES, OBJECT = b't', b'b', b'o'
POSITION = re.compile('([0-9a-f]{16})-([0-9]{1,15})')


class Position(NamedTuple):
    """A place in the messages of one group; ``str`` makes what a client keeps."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return '%s-%d' % self


def parse_position(text: Any) -> Optional[Position]:
    """Return the position that ``text`` is, or None where it is none."""
    match = POSITION.fullmatch(text) if isinstance(text, str) else None
    return None if match is None else Position(match[1], int(match[2]))


def new_id() -> str:
    """Return 64 random bits: an epoch, or the id of a member, which says nothing about it."""
    return secrets.token_hex(8)


def key_id(key: str) -> str:
    """Return what stands for the key of a member in a payload."""
    return hashlib.blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()


class Outgoing:
    """A message on its way to the engine.

    :param name: the group.
    :param kind: text, bytes, or the text of a JSON object, to which a position can be added.
    :param data: the message in bytes.
    :param exclude: the id of the members that do not get it, or nothing.
    """

    __slots__ = ('name', 'head', 'tail', 'size')

    def __init__(self, name: str, kind: bytes, data: bytes, exclude: str = '') -> None:
        self.name = name
        self.head = PAYLOAD_VERSION + kind
        self.tail = b'.%s\n%s' % (exclude.encode(), data)
        self.size = len(data)

    def placed(self, position: Optional[Position]) -> bytes:
        """Return the payload, with the place that the message has got."""
        where = b'.' if position is None else b'%s.%d' % (position.epoch.encode(), position.offset)
        return self.head + where + self.tail


class Incoming:
    """A message as it came from the engine, shared by all members of this process.

    :param data: text or bytes.
    :param position: its place; None in a group without history.
    :param exclude: the id of the members that do not get it, or nothing.
    :param is_object: whether it is a JSON object.
    :param size: bytes of it.
    """

    __slots__ = ('data', 'position', 'exclude', 'size', '_is_object', '_key', '_with_key')

    def __init__(
        self, data: Data, position: Optional[Position], exclude: str = '', is_object: bool = False, size: int = 0
    ) -> None:
        self.data = data
        self.position = position
        self.exclude = exclude
        self.size = size
        self._is_object = is_object
        self._key: Optional[str] = None
        self._with_key: Data = data

    def with_position(self, key: str) -> Data:
        """Return the message with its position under ``key``, if it is a JSON object; made once for all members."""
        if key != self._key and self._is_object and self.position is not None:
            self._key, self._with_key = key, add_to_object(str(self.data), key, str(self.position))
        return self._with_key


def add_to_object(text: str, key: str, value: str) -> str:
    """Return the JSON object ``text`` with one property more, the last one; both are known to need no escape."""
    inner = text.rstrip()[:-1]
    return '%s%s"%s":"%s"}' % (inner, '' if inner.strip() == '{' else ',', key, value)


def encode(codec: JSONCodec, name: str, data: Any, exclude: str = '') -> Outgoing:
    """Return ``data`` ready for the engine, encoded once for everybody.

    :raises TypeError: for what is neither text, bytes nor a ``types.Type``.
    :raises ValueError: for text that UTF-8 cannot encode.
    """
    if isinstance(data, str):
        return Outgoing(name, TEXT, utf8(data), exclude)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return Outgoing(name, BYTES, bytes(data), exclude)
    if isinstance(data, types.Type):
        return encode_json(codec, name, data, exclude)
    raise TypeError(
        'send() takes text, bytes or a types.Type, not %s: send_json() sends any JSON.' % type(data).__name__
    )


def encode_json(codec: JSONCodec, name: str, value: Any, exclude: str = '') -> Outgoing:
    """Return ``value`` as JSON, ready for the engine.

    :raises TypeError: or what else the codec raises for a value that JSON does not have.
    """
    text = codec.dumps(value)
    return Outgoing(name, OBJECT if text[:1] == '{' else TEXT, utf8(text), exclude)


def utf8(text: str) -> bytes:
    """Return ``text`` in UTF-8.

    :raises ValueError: naming what cannot be encoded.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(
            'The text holds %r at position %d, a lone surrogate that UTF-8 cannot encode: nothing was sent.'
            % (text[exc.start], exc.start)
        ) from None


def decode(payload: bytes) -> Incoming:
    """Return the message in ``payload``.

    :raises ValueError: for an unknown payload, such as one of another version.
    """
    head, found, data = payload.partition(b'\n')
    kind = head[1:2]
    if not found or head[:1] != PAYLOAD_VERSION or kind not in (TEXT, BYTES, OBJECT):
        raise ValueError('A payload of an unknown version.')
    epoch, offset, exclude = head[2:].decode('ascii').split('.')
    position = Position(epoch, int(offset)) if epoch else None
    return Incoming(data if kind == BYTES else data.decode(), position, exclude, kind == OBJECT, len(data))
