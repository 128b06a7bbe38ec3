"""The event hook of apistar-websocket, for applications that migrate from it."""

from apistar.server.core import Route

from apistar_ws.connection.websocket import WebSocket
from apistar_ws.routing.decorators import is_decorated


class WebSocketAutoHook:
    """An event hook that connects the WebSockets of plain routes before their handlers.

    List it in ``event_hooks`` if handlers of plain routes do not call ``connect()``. Decorated handlers need no hook.
    The application closes connections that are still open after the handler or its error.
    """

    async def on_request(self, ws: WebSocket, route: Route) -> None:
        """Accept the connection of a plain route; ignore decorated handlers and HTTP requests."""
        if ws.scope.get('type') == 'websocket' and not is_decorated(route.handler):
            await ws.connect()
