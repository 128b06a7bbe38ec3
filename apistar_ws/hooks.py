"""The event hook of apistar-websocket, for applications that move over from it."""

from apistar_ws.websocket import WebSocket


class WebSocketAutoHook:
    """Connects every WebSocket before its handler, also those of plain routes.

    List it in ``event_hooks`` for plain routes whose handlers do not connect by themselves; decorated handlers
    need no hook. What is open after the handler or its error, the application closes.
    """

    async def on_request(self, ws: WebSocket) -> None:
        """Accept the connection; a plain HTTP request is left alone."""
        if ws.scope['type'] == 'websocket':
            await ws.connect()
