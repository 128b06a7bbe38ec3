"""Close codes and reasons: the content of a close frame by RFC 6455."""

from enum import IntEnum

MAX_REASON_BYTES = 123
#: The close code of an expired connection: 4000 plus the HTTP status 401.
EXPIRED = 4401


class CloseCode(IntEnum):
    """The close codes of RFC 6455 section 7.4.1 and of the IANA registry.

    Use the members wherever a code is asked for, ``await ws.close(CloseCode.GOING_AWAY)``; they are
    plain integers. Codes 3000-3999 are registered by libraries, 4000-4999 belong to applications.
    """

    #: The connection has served its purpose.
    NORMAL_CLOSURE = 1000
    #: The endpoint goes away: the user left the page, or nothing was received for too long.
    GOING_AWAY = 1001
    #: The peer violated the protocol.
    PROTOCOL_ERROR = 1002
    #: Text instead of bytes, or the reverse.
    UNSUPPORTED_DATA = 1003
    #: Never sent: the peer's close frame had no code.
    NO_STATUS_RECEIVED = 1005
    #: Never sent: the connection was lost without a close frame.
    ABNORMAL_CLOSURE = 1006
    #: An invalid payload: invalid UTF-8, invalid JSON, a failed validation.
    INVALID_PAYLOAD = 1007
    #: The peer violated a policy of this endpoint.
    POLICY_VIOLATION = 1008
    #: A message larger than this endpoint allows.
    MESSAGE_TOO_BIG = 1009
    #: The client needed an extension that the server did not agree to.
    MANDATORY_EXTENSION = 1010
    #: The server met an unexpected condition.
    INTERNAL_ERROR = 1011
    #: The server restarts; the client may come back.
    SERVICE_RESTART = 1012
    #: The server is overloaded; the client should wait before it comes back.
    TRY_AGAIN_LATER = 1013
    #: A gateway got an invalid answer from the server behind it.
    BAD_GATEWAY = 1014
    #: Never sent: the TLS handshake failed.
    TLS_HANDSHAKE = 1015


def check_close_code(code: int) -> int:
    """Return ``code`` as a plain integer if an endpoint may send it.

    Call it before anything is sent: servers treat forbidden codes differently.

    :param code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4, IANA registry).
    :raises ValueError: for every other code.
    """
    if 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999:
        return int(code)
    raise ValueError('Close code %r must not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999.' % (code,))


def fit_reason(reason: str) -> str:
    """Return ``reason`` cut, at a character boundary, to the 123 bytes of UTF-8 that a close frame holds.

    Call it on every reason; what cannot be encoded is replaced (RFC 6455 section 5.5).
    """
    if not reason:
        return reason
    encoded = reason.encode('utf-8', 'replace')
    return encoded[:MAX_REASON_BYTES].decode('utf-8', 'ignore')
