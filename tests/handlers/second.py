from __future__ import annotations

from typing import Optional

from apistar import http

from apistar_ws import WebSocket, collect_routes, websocket_route
from tests.handlers.first import first  # noqa: F401


@websocket_route('/future/{room}/{n}')
async def future(
    ws: WebSocket, room: str, n: int, x: Optional[int], y: str | None = 'why', agent: http.Header | None = None
) -> None:
    await ws.send_json([room, n, x, y, agent])


routes = collect_routes(globals())
