"""The settings of groups, for an application and for a namespace: the part of a name before the first colon."""

import dataclasses
import json
import math
from typing import Any, Dict, Iterable, Literal, Mapping, Optional, TypedDict

from apistar.exceptions import ConfigurationError

from apistar_ws.settings import meant

#: Bytes of UTF-8 that a name may have.
MAX_NAME_BYTES = 200
#: Messages of a history, and bytes of a message, that Redis can hold: a string has 512 MiB with what is added.
MAX_HISTORY, MAX_MESSAGE = 10**9, 512 * 1024 * 1024 - 1024
#: Seconds that a lease and a time limit can have: less than a tick takes, or more than a clock can count.
SHORTEST, LONGEST = 0.05, 10.0**9
OVERFLOWS = ('close', 'drop_oldest', 'drop_newest')


class GroupOptions(TypedDict, total=False):
    """Options of a namespace of groups, as keywords; see :class:`GroupSettings`."""

    history: int
    history_ttl: float
    presence: bool
    max_queue: int
    max_queue_size: int
    max_message: int
    overflow: Literal['close', 'drop_oldest', 'drop_newest']


class GroupsOptions(GroupOptions, total=False):
    """Options of all groups of an application, as keywords; see :class:`GroupsComponent`."""

    namespaces: Optional[Mapping[str, GroupOptions]]
    prefix: str
    lease: float
    publish_timeout: float
    json: Any


@dataclasses.dataclass(frozen=True)
class GroupSettings:
    """The settings of a namespace of groups; those who send and those who join have to have the same.

    Give them to ``GroupsComponent`` for all groups, and by ``namespaces={'room': {...}}`` for those whose names begin
    with ``room:``.

    :param history: messages of a group that are kept for members that come back. Default: none, each takes memory.
    :param history_ttl: seconds that they are kept after the last one. Default: 300, for a reload or a short tunnel.
    :param presence: whether members are listed. Default: they are; without, joining costs less.
    :param max_queue: messages that may wait for one member. Default: 1,000, some seconds of a busy group.
    :param max_queue_size: bytes of them. Default: 4 MiB.
    :param max_message: bytes of one message. Default: 1 MiB, as for a message that is received.
    :param overflow: what becomes of a member whose queue is full: ``'close'`` with 1013, or ``'drop_oldest'`` or
        ``'drop_newest'`` message. Default: close, since the member can come back and ask for what it has missed.
    :raises ConfigurationError: for a value that cannot be meant.
    """

    history: int = 0
    history_ttl: float = 300.0
    presence: bool = True
    max_queue: int = 1000
    max_queue_size: int = 4 * 1024 * 1024
    max_message: int = 1024 * 1024
    overflow: str = 'close'

    def __post_init__(self) -> None:
        whole = isinstance(self.history, int) and not isinstance(self.history, bool)
        self._require('history', whole and 0 <= self.history <= MAX_HISTORY, 'a whole number, 0 for none')
        self._require('history_ttl', is_time(self.history_ttl), 'a number of seconds above %g' % SHORTEST)
        self._require('presence', isinstance(self.presence, bool), 'True or False')
        for name in ('max_queue', 'max_queue_size', 'max_message'):
            self._require(name, is_amount(getattr(self, name), int), 'a whole number above 0')
        self._require('max_message', self.max_message <= self.max_queue_size, 'no more than max_queue_size')
        self._require('max_message', self.max_message <= MAX_MESSAGE, 'no more than %d, for Redis' % MAX_MESSAGE)
        self._require('overflow', self.overflow in OVERFLOWS, "'close', 'drop_oldest' or 'drop_newest'")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigurationError('%s=%r has to be %s.' % (name, getattr(self, name), expected))


@dataclasses.dataclass(frozen=True)
class EngineSettings:
    """The settings that all groups of an application share; see :class:`GroupsComponent`.

    :raises ConfigurationError: for a value that cannot be meant.
    """

    namespaces: Optional[Mapping[str, GroupOptions]] = None
    prefix: str = 'apistar-ws'
    lease: float = 10.0
    publish_timeout: float = 5.0
    json: Any = json

    def __post_init__(self) -> None:
        for name in ('lease', 'publish_timeout'):
            value = getattr(self, name)
            if not is_time(value):
                raise ConfigurationError('%s=%r has to be a number of seconds above %g.' % (name, value, SHORTEST))
        if not isinstance(self.prefix, str) or not self.prefix.isprintable() or not self.prefix:
            raise ConfigurationError("prefix=%r has to be a text, such as 'shop'." % (self.prefix,))


ENGINE_NAMES = tuple(field.name for field in dataclasses.fields(EngineSettings))


class Namespaces:
    """Finds the settings of a group by its name.

    :param options: the settings of all groups, and ``namespaces``, what differs for those of each.
    :param where: where they were given, for errors.
    :raises ConfigurationError: for a setting or a value that is not known.
    """

    def __init__(self, options: Mapping[str, Any], where: str) -> None:
        self.shared: EngineSettings = settings_of(EngineSettings, chosen(options, ENGINE_NAMES), where)
        defaults = {name: value for name, value in options.items() if name not in ENGINE_NAMES}
        self._default: GroupSettings = settings_of(GroupSettings, defaults, where)
        self._by_name: Dict[str, GroupSettings] = {}
        for name, changes in (self.shared.namespaces or {}).items():
            if not isinstance(name, str) or ':' in name:
                raise ConfigurationError('The namespace %r has to be a text without a colon.' % (name,))
            self._by_name[name] = settings_of(GroupSettings, {**defaults, **changes}, 'The namespace %r' % name)

    def of(self, name: str) -> GroupSettings:
        """Return the settings of the group ``name``."""
        return self._by_name.get(name.partition(':')[0], self._default) if self._by_name else self._default


def chosen(options: Mapping[str, Any], names: Iterable[str]) -> Dict[str, Any]:
    """Return those of ``options`` that have one of ``names``."""
    return {name: options[name] for name in names if name in options}


def settings_of(kind: Any, given: Mapping[str, Any], where: str) -> Any:
    """Return the settings that ``given`` makes.

    :raises ConfigurationError: naming ``where`` they were given.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ConfigurationError(
            '%s does not know the setting %s%s; those of a group are %s, and those of all groups together %s.'
            % (
                where,
                ', '.join(unknown),
                meant(unknown[0], names),
                ', '.join(names),
                ', '.join(ENGINE_NAMES),
            )
        )
    try:
        return kind(**given)
    except ConfigurationError as exc:
        raise ConfigurationError('%s: %s' % (where, exc)) from None


def is_amount(value: Any, kinds: Any) -> bool:
    """Tell whether ``value`` is a number of one of ``kinds`` above 0."""
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 < value < math.inf


def is_time(value: Any) -> bool:
    """Return whether ``value`` is a number of seconds that can be waited for."""
    return is_amount(value, (int, float)) and SHORTEST < value <= LONGEST


def check_name(name: Any) -> str:
    """Return ``name`` if a group may have it.

    :raises ValueError: for what is no text, is empty or too long, or has control characters or lone surrogates.
    """
    if not isinstance(name, str) or not name:
        raise ValueError('The name of a group is a text, such as %r, and not %r.' % ('room:lobby', name))
    if any(character < ' ' or '\x7f' <= character <= '\x9f' for character in name):
        raise ValueError('The name %r of a group has control characters.' % name)
    if len(name.encode('utf-8', 'surrogatepass')) > MAX_NAME_BYTES:
        raise ValueError('The name %r... of a group is longer than %d bytes.' % (name[:40], MAX_NAME_BYTES))
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError('The name %r of a group cannot be encoded in UTF-8.' % name) from None
    return name
