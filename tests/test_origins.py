import pytest
from apistar.exceptions import ConfigurationError

from apistar_ws.origins import describe_origins, is_same_origin, origin_check, parse_origin


@pytest.mark.parametrize(
    'text, origin',
    [
        ('https://example.com', ('https', 'example.com', 443)),
        ('http://example.com:8000', ('http', 'example.com', 8000)),
        ('HTTP://Example.COM', ('http', 'example.com', 80)),
        ('http://[::1]:8000', ('http', '::1', 8000)),
        ('chrome-extension://abcdef', ('chrome-extension', 'abcdef', None)),
        ('null', None),
        ('', None),
        ('example.com', None),
        ('https://', None),
        ('https://example.com/', None),
        ('https://example.com:', None),
        ('https://user@example.com', None),
        ('https://example.com:99999', None),
        ('https://[::1', None),
        ('https://example.com https://evil.com', None),
        ('https://exa\tmple.com', None),
        ('http://a_b-c.example.com', ('http', 'a_b-c.example.com', 80)),
    ],
)
def test_origin_has_three_parts(text, origin):
    """An origin consists of scheme, host and port."""
    assert parse_origin(text) == origin


@pytest.mark.parametrize('character', ['\\', ' ', '%', '*', ',', ';', '<', '"', "'", '$', '|', '\x00', 'é', '\u212a'])
def test_invalid_character_is_refused(character):
    """A text with a character that no host contains is not an origin."""
    text = 'http://evil.com%s.example.com' % character
    assert parse_origin(text) is None
    assert not origin_check(['*.example.com'])(text.encode(), 'ws', b'testserver')


@pytest.mark.parametrize(
    'origin, scheme, host, same',
    [
        (b'http://example.com', 'ws', b'example.com', True),
        (b'http://example.com:80', 'ws', b'example.com', True),
        (b'https://example.com', 'wss', b'example.com:443', True),
        (b'http://example.com:8000', 'ws', b'example.com:8000', True),
        (b'http://example.com', 'ws', b'example.com:8000', False),
        (b'https://example.com', 'ws', b'example.com', False),
        (b'http://evil.com', 'ws', b'example.com', False),
        (b'http://example.com.evil.com', 'ws', b'example.com', False),
        (b'null', 'ws', b'example.com', False),
        (b'\xff', 'ws', b'example.com', False),
        (b'http://example.com', 'ws', b'', False),
        (b'null', 'ws', b'', False),
    ],
)
def test_same_origin_compares_all_parts(origin, scheme, host, same):
    """A page has the same origin if scheme, host and port are equal."""
    assert is_same_origin(origin, scheme, host) is same


@pytest.mark.parametrize(
    'allowed, origin, passes',
    [
        (['https://example.com'], b'https://example.com', True),
        (['https://example.com'], b'https://example.com:443', True),
        (['https://example.com'], b'http://example.com', False),
        (['https://example.com'], b'https://www.example.com', False),
        (['https://example.com:8443'], b'https://example.com:8443', True),
        (['https://*.example.com'], b'https://www.example.com', True),
        (['https://*.example.com'], b'https://a.b.example.com', True),
        (['https://*.example.com'], b'https://example.com', False),
        (['https://*.example.com'], b'https://evilexample.com', False),
        (['*.example.com'], b'http://www.example.com', True),
        (['example.com'], b'https://example.com', True),
        (['http://[::1]:8000'], b'http://[::1]:8000', True),
        (['https://example.com'], b'null', False),
        (['https://example.com'], b'\xff', False),
        (['https://other.com', 'same-origin'], b'http://testserver', True),
        (['https://other.com', 'same-origin'], b'https://other.com', True),
        (['https://other.com', 'same-origin'], b'https://third.com', False),
        ('https://example.com', b'https://example.com', True),
        (['intranet.local', 'http://intranet'], b'http://intranet', True),
        (['localhost'], b'http://localhost', True),
        (['LocalHost:3000'], b'http://localhost:3000', True),
        (['localhost'], b'http://localhost:3000', False),
        (['127.0.0.1:8000'], b'http://127.0.0.1:8000', True),
        (['[::1]'], b'https://[::1]', True),
        (['https://xn--bcher-kva.example'], b'https://xn--bcher-kva.example', True),
        ([], b'https://example.com', False),
        (['null'], b'null', True),
        (['file://'], b'file://', True),
        (['same-origin', 'file://'], b'null', False),
        (['same-origin', 'file://'], b'http://testserver', True),
        (['https://github.com/a/Tiny'], b'https://github.com/a/Tiny', True),
        (['https://github.com/a/Tiny'], b'https://github.com/a/tiny', False),
        (['https://github.com/a/Tiny'], b'https://github.com', False),
        (['capacitor://localhost'], b'capacitor://localhost', True),
        (['example.com.'], b'https://example.com.', True),
    ],
)
def test_list_allows_its_origins(allowed, origin, passes):
    """A list allows the origins that it contains."""
    check = origin_check(allowed)
    assert check(origin, 'ws', b'testserver') is passes


@pytest.mark.parametrize('allowed', ['*', ['*'], ['https://example.com', '*']])
def test_a_star_switches_the_check_off(allowed):
    assert origin_check(allowed) is None


@pytest.mark.parametrize(
    'entry',
    [
        'https://example.com/',
        'https://',
        '.',
        '.example.com',
        'example..com',
        'https://.example.com',
        'wss://example.com',
        'ws://localhost',
        'http://example.com:99999',
        'http://example.com:0',
        'example.com:0',
        'file:///page',
        'a b',
        7,
        'https://u@example.com',
        'https://*',
        'a.*.b',
        '*.[::1]',
        'http://a.com\n',
        'a\\.com',
    ],  # fmt: skip
)
def test_invalid_entry_is_refused(entry):
    """An entry that is not an origin is refused."""
    with pytest.raises(ConfigurationError, match='allowed_origins holds'):
        origin_check([entry])


@pytest.mark.parametrize('entry', ['https://bücher.example', '*.bücher.example', 'bücher', 'https://\u212aiosk.com'])
def test_non_ascii_entry_is_refused(entry):
    """An entry that is not ASCII is refused, since browsers send the ASCII form."""
    with pytest.raises(ConfigurationError, match='write the ASCII form of the name .* which begins with xn--'):
        origin_check([entry])


@pytest.mark.parametrize('allowed', ['same_origin', 'self', ['intranet'], ['intra:80'], ['Same-Origin']])
def test_single_label_is_refused(allowed):
    """A single label without a scheme is refused unless it is localhost."""
    with pytest.raises(ConfigurationError, match="write e.g. http://intranet, or 'same-origin', or '\\*'"):
        origin_check(allowed)


def test_long_text_is_no_origin():
    """A text that is too long for an origin is not one."""
    host = b'x' * 1000
    assert not is_same_origin(b'http://' + host, 'ws', host)
    assert not origin_check(['https://example.com'])(b'https://' + host, 'ws', b'testserver')


def test_log_shows_both_origins():
    """The log shows both origins as text."""
    assert describe_origins(b'https://a.example', 'ws', b'a.example:8000') == (
        'https://a.example',
        'http://a.example:8000',
    )
    assert describe_origins(b'\xff\n', 'wss', b'') == ('\\xff\\n', 'https://')
