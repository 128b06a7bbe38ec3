"""Groups: sending to many connections, in one process or across machines, without losing a message silently."""

from apistar_ws.groups.api import Group, GroupMessage, Groups
from apistar_ws.groups.component import GroupsComponent
from apistar_ws.groups.engine import Member
from apistar_ws.groups.errors import GroupsUnavailable, MessagesLost, PositionLost
from apistar_ws.groups.outbox import Sent
from apistar_ws.groups.presence import MembersChanged
from apistar_ws.groups.settings import GroupSettings

__all__ = [
    'Group',
    'GroupMessage',
    'GroupSettings',
    'Groups',
    'GroupsComponent',
    'GroupsUnavailable',
    'Member',
    'MembersChanged',
    'MessagesLost',
    'PositionLost',
    'Sent',
]
