"""The scope that a server would make of a handshake."""

from typing import Any, Dict, Iterable, List, Sequence, Tuple, Union
from urllib.parse import unquote, urlsplit

from apistar import http

HeaderPairs = List[Tuple[bytes, bytes]]
#: A name or a value of a header; bytes are sent as they are.
HeaderPart = Union[str, bytes]

#: What every client sends with a handshake (RFC 6455 section 4.1).
UPGRADE = [
    ('connection', 'Upgrade'),
    ('upgrade', 'websocket'),
    ('sec-websocket-version', '13'),
    ('sec-websocket-key', 'dGhlIHNhbXBsZSBub25jZQ=='),
]


def handshake_scope(
    url: str, subprotocols: Sequence[str], headers: Sequence[Tuple[HeaderPart, HeaderPart]]
) -> Dict[str, Any]:
    """Return the scope that a server would make of the handshake.

    :param url: the path with its query string, or a whole URL.
    :param subprotocols: what the client offers.
    :param headers: what it sends beside, or in place of, the headers that every client sends.
    """
    parts = urlsplit(url if '://' in url else 'ws://testserver' + url)
    secure = parts.scheme in ('wss', 'https')
    defaults = [('host', parts.netloc), *UPGRADE]
    if subprotocols:
        defaults.append(('sec-websocket-protocol', ', '.join(subprotocols)))
    given = encode_pairs(headers)
    names = {name for name, _ in given}
    return {
        'type': 'websocket',
        'asgi': {'version': '3.0', 'spec_version': '2.4'},
        'http_version': '1.1',
        'scheme': 'wss' if secure else 'ws',
        'path': unquote(parts.path),
        'raw_path': parts.path.encode(),
        'query_string': parts.query.encode(),
        'root_path': '',
        'headers': [pair for pair in encode_pairs(defaults) if pair[0] not in names] + given,
        'client': ('testclient', 50000),
        'server': (parts.hostname, parts.port or (443 if secure else 80)),
        'subprotocols': list(subprotocols),
        'state': {},
        'extensions': {'websocket.http.response': {}},
        # Not of the ASGI specification: API Star's word for "let the test see what the handler raised".
        'raise_exceptions': True,
    }


def encode_pairs(pairs: Sequence[Tuple[HeaderPart, HeaderPart]]) -> HeaderPairs:
    """Return headers as a server puts them into a scope."""
    return [(encode_part(name).lower(), encode_part(value)) for name, value in pairs]


def encode_part(part: HeaderPart) -> bytes:
    """Return a name or a value of a header in bytes."""
    return part if isinstance(part, bytes) else part.encode('utf-8', 'surrogateescape')


def name_as_text(name: HeaderPart) -> str:
    """Return the name of a header as text of which :func:`encode_part` makes the same bytes."""
    return name if isinstance(name, str) else name.decode('utf-8', 'surrogateescape')


def header_pairs(pairs: Iterable[Tuple[bytes, bytes]]) -> http.Headers:
    """Return the headers of a message of the application."""
    return http.Headers([(name.decode(), value.decode()) for name, value in pairs])
