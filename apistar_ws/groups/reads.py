"""Reading what an engine keeps: those who ask for the same meanwhile share one answer."""

import asyncio
from typing import Awaitable, Callable, Dict, Optional, Tuple

from apistar_ws.groups.background import start_task
from apistar_ws.groups.engine import Window
from apistar_ws.groups.errors import GroupsUnavailable

Read = Callable[[str, Optional[int]], Awaitable[Window]]
#: Seconds in which those who come back after one event ask for the same.
GATHERING = 0.002


class SharedReads:
    """Reads once for all who ask before the engine was asked; a later one may need a later answer.

    :param read: asks the engine.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._gathering: Dict[Tuple[str, Optional[int]], 'asyncio.Task[Window]'] = {}

    async def read(self, name: str, since: Optional[int]) -> Window:
        """Return what the engine keeps of a group after an offset.

        :raises GroupsUnavailable: if it is away.
        """
        key = name, since
        task = self._gathering.get(key)
        if task is None:
            task = self._gathering[key] = start_task(self._ask(key))
            # Where nobody waits any more, nobody is told.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Who asks may leave; the others still want the answer.
        await asyncio.wait({task})
        if task.cancelled():
            raise GroupsUnavailable('The groups were stopped')
        return task.result()

    async def _ask(self, key: Tuple[str, Optional[int]]) -> Window:
        try:
            await asyncio.sleep(GATHERING if key[1] is not None else 0)
        finally:
            del self._gathering[key]
        return await self._read(*key)
