"""The ASGI scope that a server makes from a handshake."""

from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple, Union
from urllib.parse import unquote, urlsplit

from apistar import http

_HeaderPairs = List[Tuple[bytes, bytes]]
#: A name or a value of a header; bytes are sent unchanged.
HeaderPart = Union[str, bytes]
#: Headers by name, which are text or bytes.
HeaderMapping = Union[Mapping[str, HeaderPart], Mapping[bytes, HeaderPart]]

#: Headers that every client sends with a handshake (RFC 6455 section 4.1).
_DEFAULT_HEADERS = [
    ('connection', 'Upgrade'),
    ('upgrade', 'websocket'),
    ('sec-websocket-version', '13'),
    ('sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ=='),
]


def handshake_scope(
    url: str, subprotocols: Sequence[str], headers: Sequence[Tuple[HeaderPart, HeaderPart]]
) -> Dict[str, Any]:
    """Return the ASGI scope of a handshake.

    :param url: the path with its query string, or a whole URL.
    :param subprotocols: the subprotocols that the client offers.
    :param headers: further headers, which replace default headers of the same name.
    """
    parts = urlsplit(url if '://' in url else 'ws://testserver' + url)
    secure = parts.scheme in ('wss', 'https')
    defaults = [('host', parts.netloc), *_DEFAULT_HEADERS]
    if subprotocols:
        defaults.append(('sec-websocket-protocol', ', '.join(subprotocols)))
    encoded = _encode_pairs(headers)
    names = {name for name, _ in encoded}
    return {
        'type': 'websocket',
        'asgi': {'version': '3.0', 'spec_version': '2.4'},
        'http_version': '1.1',
        'scheme': 'wss' if secure else 'ws',
        'path': unquote(parts.path),
        'raw_path': parts.path.encode(),
        'query_string': parts.query.encode(),
        'root_path': '',
        'headers': [pair for pair in _encode_pairs(defaults) if pair[0] not in names] + encoded,
        'client': ('testclient', 50000),
        'server': (parts.hostname, parts.port or (443 if secure else 80)),
        'subprotocols': list(subprotocols),
        'state': {},
        'extensions': {'websocket.http.response': {}},
        # An extension of API Star: exceptions of the handler are raised in the test.
        'raise_exceptions': True,
    }


def _encode_pairs(pairs: Sequence[Tuple[HeaderPart, HeaderPart]]) -> _HeaderPairs:
    return [(_encode_part(name).lower(), _encode_part(value)) for name, value in pairs]


def _encode_part(part: HeaderPart) -> bytes:
    return part if isinstance(part, bytes) else part.encode('utf-8', 'surrogateescape')


def name_as_text(name: HeaderPart) -> str:
    """Return the name of a header as text, which :func:`_encode_part` encodes to the same bytes."""
    return name if isinstance(name, str) else name.decode('utf-8', 'surrogateescape')


def header_pairs(pairs: Iterable[Tuple[bytes, bytes]]) -> http.Headers:
    """Return the headers of a message of the application."""
    return http.Headers([(name.decode(), value.decode()) for name, value in pairs])
