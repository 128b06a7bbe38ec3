"""The contracts between groups and engines."""

from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Protocol, Sequence, Union

from apistar_ws.groups.errors import GroupsUnavailable
from apistar_ws.groups.payload import Incoming, Outgoing, Position


class Member(NamedTuple):
    """Somebody who is in a group, in whichever process."""

    #: Of this membership, random.
    id: str
    #: What the handler said of it when it joined.
    info: Any
    #: When that was, in seconds since the epoch.
    since: float


class Window(NamedTuple):
    """The history of a group in an engine at one moment."""

    epoch: str
    #: The offsets of the first message that is kept, and of the last one; the first is beyond the last where none is.
    first: int
    top: int
    #: The messages after the offset that was asked for, as many as a page holds; None where they are not whole.
    messages: Optional[List[Incoming]]


#: Bytes after which a page of messages holds no further one.
PAGE_SIZE = 64 * 1024
#: What has become of a message: its place, None in a group without history, or why it was not sent.
Result = Union[Position, None, GroupsUnavailable]


class Receiver(Protocol):
    """The receiver of an engine's messages: the groups of its event loop."""

    def take(self, name: str, payload: bytes) -> None:
        """Take what was sent to a group, in the engine's order."""

    def take_change(self, name: str, joined: Sequence[Member], left: Sequence[str]) -> None:
        """Take who has joined and who has left."""

    def refresh(self, name: Optional[str] = None) -> None:
        """Read again who is in a group, or in each that is watched: what came is not enough to know."""

    def present(self) -> Dict[str, Dict[str, Member]]:
        """Return the members of this process, by group and id."""

    def on_disconnected(self) -> None:
        """Note that nothing is received from now on."""

    def on_reconnected(self) -> None:
        """Note that all groups are subscribed again."""


class Roster(Protocol):
    """Lists the members of groups, in all processes that have the same engine.

    Whatever it cannot do raises ``GroupsUnavailable``. It promises that a clean leave shows at once; that the members
    of a process that has crashed are gone a lease later; and that, soon after the engine is back, it lists for this
    process what :meth:`Receiver.present` returns, neither more nor less.
    """

    async def watch(self, name: str) -> None:
        """Return when changes of the members come here."""

    def unwatch(self, name: str) -> None:
        """Stop receiving changes of the members."""

    async def announce(self, name: str, members: Iterable[Member]) -> None:
        """Add members of this process."""

    async def withdraw(self, name: str, ids: Sequence[str]) -> None:
        """Remove members of this process."""

    async def members(self, name: str, limit: Optional[int]) -> List[Member]:
        """Return the members in all processes, or so many of them."""

    async def count(self, name: str) -> int:
        """Return how many there are."""


class Engine(Protocol):
    """Carries messages between the processes that have the same one, and remembers the last ones.

    Whatever it cannot do raises ``GroupsUnavailable``. ``GroupSequence`` relies on three promises: a message is placed,
    kept and published in one step, so that offsets come in order; a read that begins after :meth:`subscribe` has
    returned holds all that does not come by :meth:`Receiver.take`; and where a part of the history may be lost, the
    group gets another epoch, so that a place never stands for two messages.
    """

    @property
    def state(self) -> str:
        """``'open'``, ``'away'``, or ``'stopped'`` while it was not needed yet."""

    #: Whether it stays although nobody uses it: the application will end it.
    is_held: bool

    @property
    def presence(self) -> Roster:
        """The list of members."""

    async def ready(self) -> None:
        """Start, if need be; return when it is open."""

    async def until_retry(self) -> None:
        """Return when it is worth another try."""

    async def stop(self) -> None:
        """Leave nothing running."""

    async def publish(self, batch: Sequence[Outgoing]) -> List[Result]:
        """Send messages, in order."""

    async def subscribe(self, name: str) -> None:
        """Return when what is sent to the group from now on comes here."""

    def unsubscribe(self, name: str) -> None:
        """Stop receiving what is sent to the group."""

    async def place(self, name: str) -> Window:
        """Return where a group stands, without messages; it begins an epoch where it has none."""

    async def read(self, name: str, since: Optional[int]) -> Window:
        """Return the first messages after an offset, as many as a page holds; without one, none. It begins nothing."""


def contiguous(messages: List[Incoming], since: int, top: int) -> Optional[List[Incoming]]:
    """Return ``messages`` if they are the first after ``since``, each once; None if that is not certain."""
    offsets = [message.position.offset for message in messages if message.position is not None]
    is_whole = offsets == list(range(since + 1, since + 1 + len(messages))) and (bool(messages) or since >= top)
    return messages if is_whole else None
