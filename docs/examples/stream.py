import asyncio
from typing import AsyncIterator

from apistar import types, validators

from apistar_ws import ASyncApp, collect_routes, websocket_stream

events = []


class Tick(types.Type):
    count = validators.Integer()


@websocket_stream('/ticks/{start}')
async def ticks(start: int) -> AsyncIterator[Tick]:
    try:
        for count in range(start, 1000):
            yield Tick(count=count)
            await asyncio.sleep(0.1)
    finally:
        events.append('stopped')


app = ASyncApp(collect_routes(ticks))
