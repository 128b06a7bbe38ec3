"""The event hook of apistar-websocket, for applications that move over from it."""

from apistar.server.core import Route

from apistar_ws.connection.websocket import WebSocket
from apistar_ws.routing.decorators import is_marked


class WebSocketAutoHook:
    """Connects the WebSockets of plain routes before their handlers.

    List it in ``event_hooks`` for plain routes whose handlers do not connect by themselves; decorated handlers
    need no hook. What is open after the handler or its error, the application closes.
    """

    async def on_request(self, ws: WebSocket, route: Route) -> None:
        """Accept the connection of a plain route; decorated handlers and plain HTTP requests are left alone."""
        if ws.scope.get('type') == 'websocket' and not is_marked(route.handler):
            await ws.connect()
