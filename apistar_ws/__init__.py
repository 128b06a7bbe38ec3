"""WebSockets for API Star."""

import importlib
from typing import TYPE_CHECKING, Any

from apistar_ws.app import ASyncApp
from apistar_ws.codes import CloseCode
from apistar_ws.compat import WebSocketAutoHook
from apistar_ws.connection.state import WebSocketState
from apistar_ws.connection.websocket import WebSocket
from apistar_ws.exceptions import (
    InvalidMessage,
    ServiceUnavailable,
    UnsupportedMessage,
    UpgradeRequired,
    WebSocketDisconnect,
    WebSocketStateError,
)
from apistar_ws.injection.components import WebSocketComponent
from apistar_ws.routing.collecting import Route, collect_routes
from apistar_ws.routing.decorators import websocket_route
from apistar_ws.routing.listeners import websocket_listener, websocket_stream
from apistar_ws.settings import Settings

if TYPE_CHECKING:
    from apistar_ws.groups import (
        Group,
        GroupMessage,
        Groups,
        GroupsComponent,
        GroupSettings,
        GroupsUnavailable,
        Member,
        MembersChanged,
        MessagesLost,
        PositionLost,
        Sent,
    )

__version__ = '0.1.0'

__all__ = [
    'ASyncApp',
    'CloseCode',
    'Group',
    'GroupMessage',
    'GroupSettings',
    'Groups',
    'GroupsComponent',
    'GroupsUnavailable',
    'InvalidMessage',
    'Member',
    'MembersChanged',
    'MessagesLost',
    'PositionLost',
    'Route',
    'Sent',
    'ServiceUnavailable',
    'Settings',
    'UnsupportedMessage',
    'UpgradeRequired',
    'WebSocket',
    'WebSocketAutoHook',
    'WebSocketComponent',
    'WebSocketDisconnect',
    'WebSocketState',
    'WebSocketStateError',
    'collect_routes',
    'websocket_listener',
    'websocket_route',
    'websocket_stream',
]


def __getattr__(name: str) -> Any:
    """Import the groups when somebody asks for them: applications without groups do not import them."""
    if name not in __all__:
        raise AttributeError('module %r has no attribute %r' % (__name__, name))
    return getattr(importlib.import_module('apistar_ws.groups'), name)
