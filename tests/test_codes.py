import pytest

from apistar_ws import CloseCode
from apistar_ws.codes import check_close_code, fit_reason


@pytest.mark.parametrize('code', [1000, 1003, 1007, 1014, 3000, 4999, CloseCode.GOING_AWAY])
def test_registered_codes_may_be_sent(code):
    """The codes of the registry and of applications may be sent."""
    assert check_close_code(code) == code
    assert type(check_close_code(code)) is int


@pytest.mark.parametrize('code', [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, CloseCode.TLS_HANDSHAKE])
def test_reserved_codes_are_refused(code):
    """The codes that RFC 6455 reserves may not be sent."""
    with pytest.raises(ValueError, match='must not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999'):
        check_close_code(code)


@pytest.mark.parametrize(
    'reason, fitting',
    [
        ('', ''),
        ('bye', 'bye'),
        ('x' * 123, 'x' * 123),
        ('x' * 124, 'x' * 123),
        ('é' * 62, 'é' * 61),
        ('\N{SNOWMAN}' * 42, '\N{SNOWMAN}' * 41),
        ('a\ud800b', 'a?b'),
    ],
)
def test_reason_is_cut_between_characters(reason, fitting):
    """A reason is cut to 123 bytes between two characters."""
    assert fit_reason(reason) == fitting
