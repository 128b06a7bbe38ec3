"""
Exceptions of groups.

    Exception
    ├── MessagesLost             what was sent to a group did not reach a member
    └── apistar HTTPException
        ├── GroupsUnavailable    the engine is away (503; a connection closes with 1013)
        └── PositionLost         a member cannot go on where it was (410; a connection closes with 4410)
"""

from typing import Dict, Optional

from apistar.exceptions import HTTPException

from apistar_ws.codes import CloseCode

#: 4000 and the status of HTTP: the position is gone.
POSITION_LOST = 4410


class GroupsUnavailable(HTTPException):  # type: ignore[misc]
    """Raised where the engine is needed and is away, or does not answer in time.

    Left alone, an HTTP request is answered with 503, and a connection is closed with 1013: come back later, with your
    position.

    :param detail: what has happened.
    :param maybe_sent: whether the message may have been sent all the same. False: it was not, and never will be.
    """

    default_status_code = 503
    default_detail = 'The groups are unavailable'
    #: What a connection is closed with that is already accepted.
    close_code = CloseCode.TRY_AGAIN_LATER
    retry_after = 5

    def __init__(self, detail: str = default_detail, maybe_sent: bool = False) -> None:
        super().__init__(detail)
        self.maybe_sent = maybe_sent

    def __str__(self) -> str:
        return str(self.detail)

    def get_headers(self) -> Dict[str, str]:
        """Return the header that says after how many seconds to try again."""
        return {'Retry-After': str(self.retry_after)}


class PositionLost(HTTPException):  # type: ignore[misc]
    """Raised by ``join`` and ``history`` for a position from which nothing can be proven whole.

    Left alone, a connection closes with 4410 (before the accept, a denial 410): come back without the position.
    """

    default_status_code = 410
    default_detail = 'The position is lost'

    def __str__(self) -> str:
        return str(self.detail)


class MessagesLost(Exception):
    """Tells a member that messages of a group have not reached it.

    Given to ``on_lost``, or raised in the body of the ``async with`` of a member that is a function.

    :param group: the name of the group.
    :param reason: what has happened.
    :param position: where the member may go on, with ``since=``; None where its position is lost too.
    :param close_code: what a connection is closed with that is not told by ``on_lost``: 1013, come back, or 4410, come
        back without the position.
    """

    def __init__(
        self, group: str, reason: str, position: Optional[str] = None, close_code: int = CloseCode.TRY_AGAIN_LATER
    ) -> None:
        super().__init__('Messages of the group %r were lost: %s.' % (group, reason))
        self.group = group
        self.reason = reason
        self.position = position
        self.close_code = int(close_code)
