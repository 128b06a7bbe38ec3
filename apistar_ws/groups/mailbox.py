"""The queue and the task of one member, so that members do not wait for each other."""

import asyncio
from collections import deque
from typing import Any, Awaitable, Callable, Deque, Dict, Optional, Protocol

from apistar_ws.codes import CloseCode
from apistar_ws.groups.background import Pump, begin_task
from apistar_ws.groups.errors import POSITION_LOST, MessagesLost
from apistar_ws.groups.payload import Incoming, Position
from apistar_ws.groups.settings import GroupSettings
from apistar_ws.types import Data

#: Messages of one group after which those of another have their turn.
MESSAGES_PER_TURN = 100
#: Seconds that leaving waits for a message that is being sent.
DELIVERY_TIMEOUT = 1.0

Notice = Callable[[], Awaitable[None]]


class Receiving(Protocol):
    """The receiver of a mailbox's messages: a WebSocket, or a function of the handler."""

    async def is_open(self) -> None:
        """Return when messages may be given."""

    @property
    def give(self) -> Callable[[Data], Awaitable[Any]]:
        """Return the function that delivers one message."""

    def tell_lost(self, lost: MessagesLost) -> None:
        """Report a loss; no more messages follow."""

    def is_end(self, exc: Exception) -> bool:
        """Return whether ``exc`` only means that the receiver is gone."""

    def tell_cancelled(self) -> None:
        """Report that a delivery was cancelled although the member has not left."""


class Failing(Protocol):
    """The receiver of exceptions of a member's functions."""

    def fail(self, exc: Exception) -> None:
        """Report an exception."""


class Membership:
    """One member of one group: its queue and its position.

    :param group: the name of the group.
    :param settings: those of the group.
    :param mailbox: the mailbox of its connection.
    :param block: receives exceptions of its functions.
    :param exclude_id: messages that exclude this id are not for it.
    :param position_key: the key under which JSON objects get their position.
    :param on_lost: called with a loss, in place of the end of the membership.
    """

    __slots__ = (
        'group', 'settings', 'mailbox', 'block', 'exclude_id', 'position_key', 'on_lost', 'queue', 'size', 'cursor',
        'next_missed', 'marker', 'notices', 'max_queue', 'max_size', 'position', 'joined', 'is_held', 'is_waiting',
        'lost', 'on_detach', 'on_drop', 'served', '_is_told',
    )  # fmt: skip

    def __init__(
        self,
        group: str,
        settings: GroupSettings,
        mailbox: 'Mailbox',
        block: Failing,
        exclude_id: str,
        position_key: Optional[str] = None,
        on_lost: Optional[Callable[[MessagesLost], Awaitable[None]]] = None,
    ) -> None:
        self.group = group
        self.settings = settings
        self.mailbox = mailbox
        self.block = block
        self.exclude_id = exclude_id
        self.position_key = position_key
        self.on_lost = on_lost
        self.queue: Deque[Incoming] = deque()
        self.size = 0
        #: The offset behind which it reads what it has missed, after the queue; None where it gets what comes.
        self.cursor: Optional[int] = None
        self.next_missed: Callable[[Membership], Optional[Incoming]] = no_interest
        #: What it gets when it has read all that was sent before it joined.
        self.marker: Optional[Incoming] = None
        #: What is called before both.
        self.notices: Deque[Notice] = deque()
        self.max_queue, self.max_size = settings.max_queue, settings.max_queue_size
        #: Where the last message that was given stands.
        self.position: Optional[Position] = None
        #: Where the group stood when it joined.
        self.joined: Optional[Position] = None
        self.is_held = True
        self.is_waiting = False
        self.lost: Optional[MessagesLost] = None
        self._is_told = False
        #: Takes it out of what is sent to the group.
        self.on_detach: Callable[[Membership], None] = no_interest
        #: Notes a message that was dropped.
        self.on_drop: Callable[[Membership], None] = no_interest
        self.served: Optional['asyncio.Future[None]'] = None

    def release(self) -> None:
        """Let messages be given from now on."""
        self.is_held = False
        if self.marker is not None and self.cursor is None:
            self.queue.appendleft(self.marker)
            self.size += self.marker.size
            self.marker = None
        if self.cursor is not None or self.queue or self.notices:
            self.mailbox.wake(self)

    def overflow(self, message: Incoming) -> None:
        """Do with a message for which there is no room what the settings say."""
        if self.max_queue == 0:
            return
        choice = self.settings.overflow
        if choice == 'close':
            return self.lose('the queue of the member is full', is_overflow=True)
        self.on_drop(self)
        if choice == 'drop_oldest':
            while self.queue and (len(self.queue) >= self.max_queue or self.size + message.size > self.max_size):
                self.size -= self.queue.popleft().size
            self.queue.append(message)
            self.size += message.size
            self.mailbox.wake(self)

    def lose(self, reason: str, is_overflow: bool = False) -> None:
        """Tell the member that messages did not reach it; unless it is told by ``on_lost``, there are no more."""
        if self.max_queue == 0:
            return
        position = None if self.position is None or not is_overflow else str(self.position)
        code = CloseCode.TRY_AGAIN_LATER if is_overflow else POSITION_LOST
        lost = MessagesLost(self.group, reason, position, code)
        self.clear()
        if self.on_lost is not None and not self.is_held:
            if not self._is_told:
                # While it was not called yet, the first loss stands for all.
                self._is_told = True
                self.notices.append(lambda: self._call_on_lost(lost))
            return self.mailbox.wake(self)
        self.lost = lost
        self.shut()
        if not self.is_held:
            self.mailbox.receiving.tell_lost(lost)

    async def _call_on_lost(self, lost: MessagesLost) -> None:
        assert self.on_lost is not None
        self._is_told = False
        await self.on_lost(lost)

    def shut(self) -> None:
        """Take nothing more."""
        self.clear()
        # A message that is on its way through the members finds no room.
        self.max_queue = 0
        self.on_detach(self)

    def receive_missed(self, message: Incoming) -> None:
        """Receive the next message of those that were missed."""
        assert self.cursor is not None
        self.cursor += 1
        self.queue.append(message)
        self.size += message.size
        self.mailbox.wake(self)

    def clear(self) -> None:
        """Drop what waits."""
        self.queue.clear()
        self.marker = None
        self.size = 0


def no_interest(member: Membership) -> None:
    """Do nothing."""


class Mailbox:
    """The memberships of one receiver, and the task that delivers their messages, which runs while there are some.

    :param receiving: the receiver of the messages.
    :param exclude_id: stands for it in messages that are not for it.
    :param pump: begins the task.
    """

    def __init__(self, receiving: Receiving, exclude_id: str, pump: Pump) -> None:
        self.receiving = receiving
        self.exclude_id = exclude_id
        self.memberships: Dict[str, Membership] = {}
        self._pump = pump
        self._waiting: Deque[Membership] = deque()
        self._serving: Optional[Membership] = None
        self._task: Optional['asyncio.Task[None]'] = None
        self._is_awake = self._is_open = False
        #: Whether there is nobody any more to give messages to.
        self.is_over = False

    def wake(self, member: Membership) -> None:
        """Have something given to ``member``, as soon as it is its turn."""
        if member.is_held or member.is_waiting or self.is_over:
            return
        member.is_waiting = True
        self._waiting.append(member)
        if not self._is_awake:
            self._is_awake = True
            self._pump.add(self)

    def begin(self) -> None:
        """Give what has come; called by the pump."""
        begin_task(self._run())

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        try:
            if not self._is_open:
                await self.receiving.is_open()
                self._is_open = True
            while self._waiting:
                member = self._serving = self._waiting.popleft()
                await self._serve(member)
                self._serving = None
                if member.served is not None:
                    note_served(member)
        except BaseException as exc:
            self._end(exc)
            if not isinstance(exc, Exception):
                raise
        self._task, self._is_awake = None, False

    def _end(self, exc: BaseException) -> None:
        """Give nothing more, since that has failed."""
        was_over, self.is_over = self.is_over, True
        if self._serving is not None:
            note_served(self._serving)
        self._serving = None
        for member in list(self.memberships.values()):
            member.shut()
            if isinstance(exc, Exception) and not self.receiving.is_end(exc):
                member.block.fail(exc)
        if not isinstance(exc, Exception) and not was_over:
            self.receiving.tell_cancelled()

    async def _serve(self, member: Membership) -> None:
        """Give ``member`` what waits for it, but not for ever."""
        member.is_waiting = False
        give, key, exclude_id, queue = self.receiving.give, member.position_key, member.exclude_id, member.queue
        for _ in range(MESSAGES_PER_TURN):
            if member.notices:
                await self._call(member, member.notices.popleft())
                continue
            if queue:
                message = queue.popleft()
                member.size -= message.size
            else:
                missed = None if member.cursor is None else member.next_missed(member)
                if missed is None:
                    return
                message = missed
            if message.exclude != exclude_id:
                await give(message.data if key is None else message.with_position(key))
            if message.position is not None:
                member.position = message.position
        self.wake(member)

    async def _call(self, member: Membership, notice: Notice) -> None:
        """Call a function of ``member``; what it raises ends this membership, and no other one of the mailbox."""
        try:
            await notice()
        except Exception as exc:
            member.shut()
            member.notices.clear()
            if not self.receiving.is_end(exc):
                member.block.fail(exc)

    async def leave(self, member: Membership) -> None:
        """Give ``member`` nothing more; a message that is being sent has a second."""
        member.shut()
        member.notices.clear()
        if self.memberships.get(member.group) is member:
            del self.memberships[member.group]
        is_inside = self._task is not None and asyncio.current_task() is self._task
        try:
            if self._serving is member and not is_inside:
                member.served = asyncio.get_running_loop().create_future()
                await asyncio.wait({member.served}, timeout=DELIVERY_TIMEOUT)
        finally:
            if not self.memberships:
                self._stop(is_inside)

    def _stop(self, is_inside: bool) -> None:
        self.is_over = True
        self._waiting.clear()
        if self._task is not None and not is_inside:
            self._task.cancel()


def note_served(member: Membership) -> None:
    """Tell who waits for that: nothing is being given to ``member`` any more."""
    if member.served is not None and not member.served.done():
        member.served.set_result(None)
