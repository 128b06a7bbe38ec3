"""The handshake, decoded: headers, cookies, query and URL; and the headers of the answer, encoded."""

import re
from typing import Any, Iterable, List, Mapping, Sequence, Tuple, Union
from urllib.parse import parse_qsl, urlsplit

from apistar_ws.origins import DEFAULT_PORTS
from apistar_ws.settings import is_token
from apistar_ws.types import Scope

HeaderItems = Union[Mapping[str, str], Iterable[Tuple[str, str]]]

#: A host and its port; anything else in a Host header could change the path of the URL.
_HOST = re.compile(r'([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?')
#: Headers of the answer that only the server sets, to make the upgrade.
_UPGRADE_HEADERS = frozenset(['sec-websocket-accept', 'sec-websocket-extensions', 'connection', 'upgrade'])


def query_pairs(query: str) -> List[Tuple[str, str]]:
    """Return the names and values of a query string, like ``parse_qsl`` but faster without escapes."""
    if '%' in query or '+' in query:
        return parse_qsl(query)
    pairs = [pair.partition('=') for pair in query.split('&')]
    return [(name, value) for name, _, value in pairs if value]


def printable(text: Any) -> str:
    """Return ``text``, which may come from a client, escaped for one line of a log or an error."""
    return repr(str(text))[1:-1]


def decode_headers(scope: Scope) -> List[Tuple[str, str]]:
    """Return the headers of a handshake or a request, with all ``Cookie`` fields joined.

    A field whose name is not ASCII is omitted: in lower case it might become another.
    """
    fields = [(name.decode(), value) for name, value in scope['headers'] if name.isascii()]
    headers = [(name, decode_value(value)) for name, value in fields]
    cookies = [value for name, value in fields if name.lower() == 'cookie']
    if len(cookies) > 1 or not all(map(bytes.isascii, cookies)):
        headers = [pair for pair in headers if pair[0].lower() != 'cookie'] + [('cookie', decode_cookies(cookies))]
    return headers


def decode_value(value: bytes) -> str:
    """Return the value of a header as text: decoded as UTF-8, as browsers send it, or else as Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode('latin-1')


def decode_cookies(fields: Sequence[bytes]) -> str:
    """Return the ``Cookie`` fields of one handshake, joined (RFC 6265 section 5.4), each cookie decoded separately."""
    return ';'.join(map(decode_value, b'; '.join(fields).split(b';')))


def with_root_path(scope: Scope, path: str) -> str:
    """Return a path of the application as a client sees it, prefixed with the root path."""
    return str(scope.get('root_path') or '').rstrip('/') + path


def connection_url(scope: Scope) -> str:
    """Return the URL that the client requested, with the host of its Host header or else the server's address."""
    scheme = scope.get('scheme') or 'ws'
    # In the decoded path these two would begin another part of the URL.
    path = with_root_path(scope, scope['path']).replace('?', '%3F').replace('#', '%23')
    query = scope.get('query_string', b'').decode('utf-8', 'replace')
    host = next((decode_value(value) for name, value in scope['headers'] if name == b'host'), '')
    if not _is_host(host):
        host = ''
    return '%s://%s%s%s' % (scheme, host or _server_host(scope, scheme), path, query and '?' + query)


def _is_host(host: str) -> bool:
    """Return whether a Host header is a host and a port, and cannot change the path of a URL."""
    try:
        return _HOST.fullmatch(host) is not None and urlsplit('//' + host).port != -1
    except ValueError:
        return False


def _server_host(scope: Scope, scheme: str) -> str:
    """Return host and port of the server, without the port if it is the default of the scheme."""
    host, port = scope.get('server') or ('localhost', None)
    if port is None:
        return 'localhost'
    return host if port == DEFAULT_PORTS.get(scheme) else '%s:%d' % (host, port)


def encode_headers(headers: HeaderItems) -> List[Tuple[bytes, bytes]]:
    """Return headers as ASGI requires them: names in lower case, names and values in bytes.

    :raises ValueError: for a name or value that HTTP does not allow (RFC 9110 section 5.5).
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [_encode_header(name, value) for name, value in pairs]


def _encode_header(name: str, value: str) -> Tuple[bytes, bytes]:
    """Return one header in bytes; see :func:`encode_headers`."""
    if not isinstance(name, str) or not isinstance(value, str):
        raise ValueError('The header %r: %r cannot be sent: give name and value as text.' % (name, value))
    if not is_token(name) or not _is_field_value(value):
        raise ValueError('The header %r: %r cannot be sent: HTTP does not allow it.' % (name, value))
    return name.lower().encode('ascii'), value.encode()


def _is_field_value(text: str) -> bool:
    """Return whether ``text`` may be the value of a header (RFC 9110 section 5.5)."""
    return text == text.strip() and all(c >= ' ' and c != '\x7f' or c == '\t' for c in text)


def encode_accept_headers(headers: HeaderItems) -> List[Tuple[bytes, bytes]]:
    """Return the headers of an accept as ASGI requires them.

    :raises ValueError: for a header that HTTP does not allow, or that only the server sets.
    """
    encoded = encode_headers(headers)
    for name in (pair[0].decode() for pair in encoded):
        if name == 'sec-websocket-protocol':
            raise ValueError('The header %s is not for headers=: give connect() the subprotocol by its name.' % name)
        if name in _UPGRADE_HEADERS:
            raise ValueError("The header %s is the server's, which answers the upgrade with it: leave it out." % name)
    return encoded
