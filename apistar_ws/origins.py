"""Which pages may open a WebSocket: the Origin header against a route's ``allowed_origins``.

A browser lets every page open a WebSocket to every host and sends that host's cookies along; the Origin
header is all that tells a foreign page from one's own (RFC 6455 section 10.2).
"""

import re
from functools import lru_cache
from typing import Callable, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from apistar.exceptions import ConfigurationError

#: Bytes of an origin and a host together; DNS ends a name at 253.
LONGEST = 600
SAME_ORIGIN = 'same-origin'
ANY_ORIGIN = '*'
DEFAULT_PORTS = {'http': 80, 'https': 443, 'ws': 80, 'wss': 443}
HTTP_SCHEMES = {'ws': 'http', 'wss': 'https', 'http': 'http', 'https': 'https'}
PAGE_PREFIXES = {'ws': b'http://', 'wss': b'https://'}
PATTERN = re.compile(
    r'^(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<host>\[[0-9a-f:.]+\]|(?:\*\.)?[^/:@\s*]+)(?::(?P<port>\d+))?\Z'
)

AllowedOrigins = Union[str, Sequence[str]]
Origin = Tuple[str, str, Optional[int]]
# Says whether a page of the origin may connect to this scheme and Host header.
OriginCheck = Callable[[bytes, str, bytes], bool]


def parse_origin(text: str) -> Optional[Origin]:
    """Return scheme, host and port of an origin, or None if it is not one (RFC 6454 section 6.2)."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    # Nothing but scheme, host and port makes an origin: compare it with what these alone would give.
    if not parts.scheme or not parts.hostname or text.lower() != '%s://%s' % (parts.scheme, parts.netloc.lower()):
        return None
    if '@' in parts.netloc or parts.netloc.endswith(':'):
        return None
    return parts.scheme, parts.hostname, port if port is not None else DEFAULT_PORTS.get(parts.scheme)


def is_same_origin(origin: bytes, scheme: str, host: bytes) -> bool:
    """Tell whether a page of ``origin`` came from the server it now connects to.

    ``scheme`` is the connection's, ``host`` its Host header; scheme, host and port have to be equal.
    """
    if len(origin) + len(host) > LONGEST:
        return False
    # Where they are spelt alike, as by every browser, they need not be taken apart.
    if host and origin == PAGE_PREFIXES.get(scheme, b'') + host:
        return True
    return are_equal(origin, scheme, host)


@lru_cache(maxsize=1024)
def are_equal(origin: bytes, scheme: str, host: bytes) -> bool:
    """Tell whether ``origin`` and the origin of ``scheme`` and ``host`` are equal, whatever their spelling."""
    try:
        page = parse_origin(origin.decode())
        server = parse_origin('%s://%s' % (HTTP_SCHEMES.get(scheme, scheme), host.decode()))
    except UnicodeDecodeError:
        return False
    return page is not None and page == server


def origin_check(allowed: AllowedOrigins) -> Optional[OriginCheck]:
    """Return what decides about an Origin header under ``allowed_origins``, or None where all may pass.

    :param allowed: ``'same-origin'``, ``'*'``, or a list of origins, in which ``*.`` may begin a host and a
        missing scheme stands for http and https.
    :raises ConfigurationError: for an entry that is not an origin.
    """
    entries = [allowed] if isinstance(allowed, str) else list(allowed)
    if ANY_ORIGIN in entries:
        return None
    if entries == [SAME_ORIGIN]:
        return is_same_origin
    matchers = [origin_matcher(entry) for entry in entries if entry != SAME_ORIGIN]
    same_origin = SAME_ORIGIN in entries

    @lru_cache(maxsize=1024)
    def is_allowed(origin: bytes, scheme: str, host: bytes) -> bool:
        if same_origin and is_same_origin(origin, scheme, host):
            return True
        page = parse_origin(origin.decode('utf-8', 'replace'))
        return page is not None and any(matches(page) for matches in matchers)

    return lambda origin, scheme, host: len(origin) + len(host) <= LONGEST and is_allowed(origin, scheme, host)


def origin_matcher(entry: str) -> Callable[[Origin], bool]:
    """Return what tells whether an origin is the one that ``entry`` of a list names."""
    match = PATTERN.match(entry.lower()) if isinstance(entry, str) else None
    if match is None:
        raise ConfigurationError(
            'allowed_origins holds %r; an entry is an origin such as https://example.com, https://*.example.com '
            "or example.com, or it is 'same-origin', or '*'." % (entry,)
        )
    schemes = (match['scheme'],) if match['scheme'] else ('http', 'https')
    host, port = match['host'].strip('[]'), match['port'] and int(match['port'])

    def matches(origin: Origin) -> bool:
        scheme, page_host, page_port = origin
        if scheme not in schemes or page_port != (port or DEFAULT_PORTS.get(scheme)):
            return False
        return page_host.endswith(host[1:]) if host.startswith('*.') else page_host == host

    return matches
