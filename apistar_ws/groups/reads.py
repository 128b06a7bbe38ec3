"""Reads of the engine, some at once, each shared by all who ask for the same before the engine was asked."""

import asyncio
from typing import Dict, Optional, Tuple

from apistar_ws.groups.background import start_task
from apistar_ws.groups.engine import Engine, Window
from apistar_ws.groups.errors import GroupsUnavailable

#: Reads that are in flight at once; when the engine is back, all groups read.
MAX_READS = 16


class SharedReads:
    """Reads once for all who ask before the engine was asked; a later one may need a later answer.

    :param engine: is asked.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._free = asyncio.Semaphore(MAX_READS)
        self._gathering: Dict[Tuple[str, Optional[int]], 'asyncio.Task[Window]'] = {}

    async def place(self, name: str) -> Window:
        """Return where a group stands; it gets a place where it has none.

        :raises GroupsUnavailable: if the engine is away.
        """
        return await self._shared(name, None)

    async def page(self, name: str, since: int) -> Window:
        """Return the first messages that the engine keeps of a group after an offset.

        :raises GroupsUnavailable: if the engine is away.
        """
        return await self._shared(name, since)

    async def _shared(self, name: str, since: Optional[int]) -> Window:
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
        name, since = key
        try:
            await self._free.acquire()
        finally:
            del self._gathering[key]
        try:
            return await (self._engine.place(name) if since is None else self._engine.read(name, since))
        finally:
            self._free.release()
