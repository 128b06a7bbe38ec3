import asyncio
import contextlib
import time

from apistar_ws import (
    ASyncApp,
    Groups,
    GroupsComponent,
    WebSocket,
    collect_routes,
    websocket_route,
)


@websocket_route('/clock')
async def clock(ws: WebSocket, groups: Groups) -> None:
    async with groups.join('clock', ws):
        async for _ in ws:
            """This client only listens."""


class Ticker:
    """Tells everybody the time, for as long as the application runs."""

    async def on_startup(self, groups: Groups) -> None:
        self.task = asyncio.create_task(self.run(groups))

    async def run(self, groups: Groups) -> None:
        while True:
            groups.send_json('clock', {'now': time.time()})
            await asyncio.sleep(1)

    async def on_shutdown(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


app = ASyncApp(
    collect_routes(clock), components=[GroupsComponent()], event_hooks=[Ticker]
)
