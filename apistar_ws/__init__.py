"""WebSockets for API Star."""

from apistar_ws.app import ASyncApp
from apistar_ws.codes import CloseCode
from apistar_ws.compat import WebSocketAutoHook
from apistar_ws.components import WebSocketComponent
from apistar_ws.ending import WebSocketState
from apistar_ws.exceptions import (
    InvalidMessage,
    ServiceUnavailable,
    UnsupportedMessage,
    UpgradeRequired,
    WebSocketDisconnect,
    WebSocketStateError,
)
from apistar_ws.listeners import websocket_listener
from apistar_ws.routes import Route, collect_routes, websocket_route
from apistar_ws.settings import Settings
from apistar_ws.streams import websocket_stream
from apistar_ws.websocket import WebSocket

__version__ = '0.1.0'

__all__ = [
    'ASyncApp',
    'CloseCode',
    'InvalidMessage',
    'Route',
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
