"""The check of the Origin header against a route's ``allowed_origins``.

A browser lets every page open a WebSocket to every host and sends that host's cookies along; the Origin
header alone distinguishes foreign pages from your own (RFC 6455 section 10.2).
"""

import re
from functools import lru_cache
from typing import Callable, Optional, Sequence, Tuple, Union

from apistar.exceptions import ConfigurationError

#: Bytes of an origin and a host together; DNS ends a name at 253.
MAX_ORIGIN_BYTES = 600
SAME_ORIGIN = 'same-origin'
ANY_ORIGIN = '*'
HIGHEST_PORT = 65535
DEFAULT_PORTS = {'http': 80, 'https': 443, 'ws': 80, 'wss': 443}
HTTP_SCHEMES = {'ws': 'http', 'wss': 'https', 'http': 'http', 'https': 'https'}
PAGE_PREFIXES = {'ws': b'http://', 'wss': b'https://'}
SCHEME = '(?P<scheme>[a-z][a-z0-9+.-]*)://'
ADDRESS = r'\[[0-9a-f:.]+\]'
NAME = '[a-z0-9._-]+'
_PORT = '(?::(?P<port>[0-9]{1,5}))?'
ORIGIN = re.compile('%s(?P<host>%s|%s)%s' % (SCHEME, ADDRESS, NAME, _PORT))
#: Origins of devices and desktop shells, which RFC 6454 does not have: allowed only if listed literally.
LITERAL = re.compile(r'null|file://|%s(?:%s|%s)%s/[!-~]+' % (SCHEME, ADDRESS, NAME, _PORT), re.IGNORECASE)
ENTRY = re.compile(r'(?:%s)?(?P<host>%s|(?:\*\.)?%s)%s' % (SCHEME, ADDRESS, NAME, _PORT))

AllowedOrigins = Union[str, Sequence[str]]
Origin = Tuple[str, str, Optional[int]]
# Returns whether a page of the origin may connect to this scheme and Host header.
OriginCheck = Callable[[bytes, str, bytes], bool]


def parse_origin(text: str) -> Optional[Origin]:
    """Return scheme, host and port of an origin, or None if it is not one (RFC 6454 section 6.2)."""
    # lower() may turn a letter beyond ASCII into an ASCII one.
    match = ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    if match is None or int(match['port'] or 0) > HIGHEST_PORT:
        return None
    scheme, host, port = match.group('scheme', 'host', 'port')
    return scheme, host.strip('[]'), int(port) if port is not None else DEFAULT_PORTS.get(scheme)


def is_same_origin(origin: bytes, scheme: str, host: bytes) -> bool:
    """Return whether a page of ``origin`` came from the server it now connects to.

    ``scheme`` is the connection's, ``host`` its Host header; scheme, host and port have to be equal.
    """
    if len(origin) + len(host) > MAX_ORIGIN_BYTES:
        return False
    # Browsers spell them alike: then they need not be parsed.
    if host and origin == PAGE_PREFIXES.get(scheme, b'') + host:
        return True
    return are_equal(origin, scheme, host)


@lru_cache(maxsize=1024)
def are_equal(origin: bytes, scheme: str, host: bytes) -> bool:
    """Return whether ``origin`` and the origin of ``scheme`` and ``host`` are equal, whatever their spelling."""
    try:
        page = parse_origin(origin.decode())
        server = parse_origin('%s://%s' % (HTTP_SCHEMES.get(scheme, scheme), host.decode()))
    except UnicodeDecodeError:
        return False
    return page is not None and page == server


def describe_origins(origin: bytes, scheme: str, host: bytes) -> Tuple[str, str]:
    """Return the origin of the page and that of the connection, for the log."""
    server = '%s://%s' % (HTTP_SCHEMES.get(scheme, scheme), host.decode('latin-1'))
    return ascii(origin.decode('latin-1'))[1:-1], ascii(server)[1:-1]


def origin_check(allowed: AllowedOrigins) -> Optional[OriginCheck]:
    """Return the check for ``allowed_origins``, or None if all origins are allowed.

    :param allowed: ``'same-origin'``, ``'*'``, or a list of origins, in which ``*.`` may begin a host and a
        missing scheme stands for http and https. ``null``, ``file://`` and an origin with a path, as devices send
        them, are allowed where they are listed.
    :raises ConfigurationError: for an entry that is not an origin.
    """
    entries = [allowed] if isinstance(allowed, str) else list(allowed)
    if ANY_ORIGIN in entries:
        return None
    if entries == [SAME_ORIGIN]:
        return is_same_origin
    literals = frozenset(entry.encode() for entry in entries if isinstance(entry, str) and LITERAL.fullmatch(entry))
    others = [entry for entry in entries if not (isinstance(entry, str) and entry.encode() in literals)]
    matchers = [origin_matcher(entry) for entry in others if entry != SAME_ORIGIN]
    same_origin = SAME_ORIGIN in entries

    @lru_cache(maxsize=1024)
    def is_allowed(origin: bytes, scheme: str, host: bytes) -> bool:
        if origin in literals or (same_origin and is_same_origin(origin, scheme, host)):
            return True
        page = parse_origin(origin.decode('utf-8', 'replace'))
        return page is not None and any(matches(page) for matches in matchers)

    return lambda origin, scheme, host: len(origin) + len(host) <= MAX_ORIGIN_BYTES and is_allowed(origin, scheme, host)


def parse_entry(entry: str) -> 're.Match[str]':
    """Return scheme, host and port of an entry of a list, as a match.

    :raises ConfigurationError: for an entry that no Origin header can match, or that looks like a mistake.
    """
    if isinstance(entry, str) and not entry.isascii():
        raise ConfigurationError(
            'allowed_origins holds %r; write the ASCII form of the name that browsers send, which begins with xn--.'
            % entry
        )
    match = ENTRY.fullmatch(entry.lower()) if isinstance(entry, str) else None
    if match is None:
        raise ConfigurationError(
            'allowed_origins holds %r; an entry is an origin such as https://example.com, https://*.example.com '
            "or example.com, or it is 'same-origin', or '*'." % (entry,)
        )
    refuse_impossible(entry, match)
    if not match['scheme'] and match['host'] != 'localhost' and not set('.:') & set(match['host'].strip('.')):
        raise ConfigurationError(
            'allowed_origins holds %r; a host of a single label needs its scheme: write e.g. http://intranet, '
            "or 'same-origin', or '*'." % entry
        )
    return match


def refuse_impossible(entry: str, match: 're.Match[str]') -> None:
    """Refuse an entry that cannot be the origin of a page.

    :raises ConfigurationError: with the reason.
    """
    labels = match['host'].split('.')
    if match['scheme'] in ('ws', 'wss'):
        problem = 'a page has http or https'
    elif match['port'] and not 0 < int(match['port']) <= HIGHEST_PORT:
        problem = 'a port is 1 to 65535'
    elif len(labels) > 1 and '' in labels[:-1]:
        problem = 'a part of the host is empty; write *.example.com for all hosts below example.com'
    else:
        return
    raise ConfigurationError('allowed_origins holds %r, which no Origin header can match: %s.' % (entry, problem))


def origin_matcher(entry: str) -> Callable[[Origin], bool]:
    """Return the check for one entry of a list.

    :raises ConfigurationError: for an entry that is not an origin.
    """
    match = parse_entry(entry)
    schemes = (match['scheme'],) if match['scheme'] else ('http', 'https')
    host, port = match['host'].strip('[]'), match['port'] and int(match['port'])

    def matches(origin: Origin) -> bool:
        scheme, page_host, page_port = origin
        if scheme not in schemes or page_port != (port or DEFAULT_PORTS.get(scheme)):
            return False
        return page_host.endswith(host[1:]) if host.startswith('*.') else page_host == host

    return matches
