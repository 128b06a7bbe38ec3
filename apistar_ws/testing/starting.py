"""The start and the stop of an application in a test, as a server asks for them (ASGI lifespan protocol)."""

import asyncio
import contextlib
from typing import Any, AsyncIterator, Callable, Optional

from apistar_ws.testing.errors import WaitTimeout
from apistar_ws.testing.waits import wait
from apistar_ws.types import Message

#: Seconds that an application may take to start, and to stop.
LIFESPAN_TIMEOUT = 10.0


class Lifespan:
    """Starts and stops an application.

    :param app: the application.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._to_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._from_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._task: Optional['asyncio.Task[None]'] = None

    async def start(self) -> None:
        """Have the application start.

        :raises Exception: what has kept it from that.
        """
        self._task = asyncio.ensure_future(self._run())
        await self._ask('lifespan.startup')

    async def stop(self) -> None:
        """Have the application stop.

        :raises Exception: what has failed there.
        """
        await self._ask('lifespan.shutdown')

    async def _run(self) -> None:
        scope = {'type': 'lifespan', 'asgi': {'version': '3.0', 'spec_version': '2.0'}, 'raise_exceptions': True}
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _ask(self, message_type: str) -> None:
        """Wait for the application's answer, or for what it raises in place of one."""
        assert self._task is not None
        if self._task.done():
            # It does not know of a lifespan, and has said so by raising (ASGI lifespan protocol).
            return
        self._to_app.put_nowait({'type': message_type})
        answer = asyncio.ensure_future(self._from_app.get())
        if not await wait({answer, self._task}, LIFESPAN_TIMEOUT, asyncio.FIRST_COMPLETED):
            self._task.cancel()
            raise WaitTimeout('Waited %g seconds for an answer to %s' % (LIFESPAN_TIMEOUT, message_type))
        if answer.done() and answer.result()['type'].endswith('.failed'):
            await self._task
        elif self._task.done():
            self._task.exception()
        answer.cancel()


@contextlib.asynccontextmanager
async def lifespan(app: Callable[..., Any]) -> AsyncIterator[None]:
    """Start an application before the block of an ``async with``, and stop it after it: its hooks' ``on_startup``
    and ``on_shutdown`` run. In a test that is not ``async``, ``with TestClient(app)`` does it.

    :param app: the application.
    :raises Exception: what a hook has raised.
    """
    life = Lifespan(app)
    await life.start()
    try:
        yield
    finally:
        await life.stop()
