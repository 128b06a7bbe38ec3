import asyncio
import signal

from apistar import App

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route


@websocket_route('/ticks')
async def ticks(ws: WebSocket):
    while True:
        await ws.send('tick')
        await asyncio.sleep(1)


class DrainFirst:
    """Sends the clients away when the process is told to end, then tells the server."""

    def on_startup(self, app: App):
        self.app = app
        self.loop = asyncio.get_running_loop()
        self.server = signal.signal(signal.SIGTERM, self.drain)

    def drain(self, signum, frame):
        self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self.end()))

    async def end(self):
        await self.app.drain(seconds=2)
        signal.signal(signal.SIGTERM, self.server)
        signal.raise_signal(signal.SIGTERM)


app = ASyncApp(collect_routes(ticks), event_hooks=[DrainFirst])
