"""The limits of an application or a route, each with its default and the reason for it."""

import dataclasses
import difflib
import json
import math
from typing import Any, Awaitable, Callable, Iterable, Literal, Optional, Sequence, TypedDict, Union

from apistar.exceptions import ConfigurationError

from apistar_ws.messages.codecs import Codec, JSONCodec, json_codec
from apistar_ws.origins import SAME_ORIGIN, AllowedOrigins, OriginCheck, origin_check

OnInvalid = Union[Literal['close', 'reply'], Callable[..., Union[None, Awaitable[None]]]]


class Options(TypedDict, total=False):
    """The settings as keyword arguments; see :class:`Settings`."""

    allowed_origins: AllowedOrigins
    max_message_size: Optional[int]
    max_messages_per_second: Optional[int]
    idle_timeout: Optional[float]
    send_timeout: Optional[float]
    backlog_timeout: Optional[float]
    max_connections: Optional[int]
    subprotocols: Sequence[str]
    cancel_on_disconnect: bool
    on_invalid: OnInvalid
    error_key: str
    json: Codec


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of an application, given to ``WebSocketComponent``, and of a route, given to its decorator.

    Give only what should differ from the default; a route's value overrides the application's.

    :param allowed_origins: the origins whose pages may connect: ``'same-origin'``, ``'*'``, or a list of origins, in
        which ``*.`` may begin a host. Default: same origin, since a browser sends cookies from any page (RFC 6455
        10.2).
    :param max_message_size: bytes of one message, None for no limit. Default: 1 MiB, more than user interfaces
        need, and small enough that a thousand clients cannot fill the memory.
    :param max_messages_per_second: messages that a client may send in any one second, None for no limit.
        Default: none, since a client can send no faster than the handler reads.
    :param idle_timeout: seconds in which something must be received, None for no limit. Default: none, since
        many clients only listen, and the server's pings detect lost ones.
    :param send_timeout: seconds that a send may wait for a client that does not read, None for no limit.
        Default: 20, the time that uvicorn gives a client to answer a ping.
    :param backlog_timeout: seconds that a client may be held back because the handler does not receive, None for
        no limit; also the time in which messages are delivered after the client has closed. Default: 20, as for a
        client that does not read; until then a lost client may go unnoticed.
    :param max_connections: open connections of a route in one process, None for no limit.
        Default: 10,000, which take about one gigabyte.
    :param subprotocols: the subprotocols of the route, the preferred one first. Default: none.
    :param cancel_on_disconnect: whether a handler that is not receiving is cancelled when its client has left.
        Default: True, since its work is of no use.
    :param on_invalid: the reaction to a message that is not of the declared type: ``'close'`` with 1007, ``'reply'``
        with the error as JSON and continue, or a function of ``(ws, exc)`` to call before continuing. Default: close.
    :param error_key: the key of the object in which ``on_invalid='reply'`` sends the error. Default: ``error``; choose
        one that no message of the application has, so that a client can tell the two apart.
    :param json: the codec: the ``json`` module, ``orjson``, or an object with ``dumps`` and ``loads``.
    :raises ConfigurationError: for an invalid value.
    """

    allowed_origins: AllowedOrigins = SAME_ORIGIN
    max_message_size: Optional[int] = 1024 * 1024
    max_messages_per_second: Optional[int] = None
    idle_timeout: Optional[float] = None
    send_timeout: Optional[float] = 20.0
    backlog_timeout: Optional[float] = 20.0
    max_connections: Optional[int] = 10_000
    subprotocols: Sequence[str] = ()
    cancel_on_disconnect: bool = True
    on_invalid: OnInvalid = 'close'
    error_key: str = 'error'
    json: Codec = json

    #: Decides about an Origin header; None if every origin is allowed.
    allows_origin: Optional[OriginCheck] = dataclasses.field(init=False, repr=False, compare=False)
    #: The codec, ready for API Star's types.
    codec: JSONCodec = dataclasses.field(init=False, repr=False, compare=False)
    #: Characters of a text that needs no check; -1 if every message needs one.
    small_message: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ('idle_timeout', 'send_timeout', 'backlog_timeout'):
            self._require(name, is_limit(getattr(self, name), (int, float)), 'a number above 0, or None for no limit')
        for name in ('max_message_size', 'max_messages_per_second', 'max_connections'):
            self._require(name, is_limit(getattr(self, name), int), 'a whole number above 0, or None for no limit')
        self._require('allowed_origins', isinstance(self.allowed_origins, (str, list, tuple, set, frozenset)), 'a list')
        self._require('subprotocols', is_subprotocols(self.subprotocols), 'a list of names, each a token of RFC 9110')
        self._require('cancel_on_disconnect', isinstance(self.cancel_on_disconnect, bool), 'True or False')
        answers_invalid = self.on_invalid in ('close', 'reply') or callable(self.on_invalid)
        self._require('on_invalid', answers_invalid, "'close', 'reply' or a function of (ws, exc)")
        self._require('error_key', isinstance(self.error_key, str) and bool(self.error_key), 'a text')
        self._set('subprotocols', tuple(self.subprotocols))
        self._set('allows_origin', origin_check(self.allowed_origins))
        self._set('codec', json_codec(self.json))
        self._set('small_message', self._small_message())

    def _small_message(self) -> int:
        if self.max_messages_per_second is not None:
            return -1
        # A character takes at most four bytes in UTF-8.
        return 2**62 if self.max_message_size is None else int(self.max_message_size) // 4

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigurationError('%s=%r has to be %s.' % (name, getattr(self, name), expected))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def override(self, **changes: Any) -> 'Settings':
        """Return these settings with some of them changed, as a route changes the application's."""
        return dataclasses.replace(self, **changes) if changes else self


SETTING_NAMES = tuple(field.name for field in dataclasses.fields(Settings) if field.init)


def check_settings(given: Any, where: str) -> None:
    """Refuse unknown settings and invalid values.

    :raises ConfigurationError: naming ``where`` they were given.
    """
    unknown = sorted(set(given) - set(SETTING_NAMES))
    if unknown:
        raise ConfigurationError(
            '%s does not know the setting %s%s; the settings are %s.'
            % (where, ', '.join(unknown), meant(unknown[0], SETTING_NAMES), ', '.join(SETTING_NAMES))
        )
    try:
        Settings(**given)
    except ConfigurationError as exc:
        raise ConfigurationError('%s: %s' % (where, exc)) from None


def meant(name: str, known: Iterable[str]) -> str:
    """Return a question with the known name that resembles ``name`` most, or an empty text."""
    like = difflib.get_close_matches(name, known, 1)
    return ' (did you mean %s?)' % like[0] if like else ''


def is_limit(value: Any, kinds: Any) -> bool:
    """Return whether ``value`` can be a limit: a number of one of ``kinds`` above 0, or None."""
    return value is None or (isinstance(value, kinds) and not isinstance(value, bool) and 0 < value < math.inf)


def is_subprotocols(value: Any) -> bool:
    """Return whether ``value`` is a sequence of subprotocol names (RFC 6455 section 4.1: tokens of HTTP)."""
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) and is_token(name) for name in value)


def is_token(text: str) -> bool:
    """Return whether ``text`` is a token of HTTP (RFC 9110 section 5.6.2)."""
    return bool(text) and text.isascii() and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in text)
