"""Start and stop an application in a test, as a server does (ASGI lifespan protocol)."""

import asyncio
import contextlib
from typing import Any, AsyncIterator, Callable, Optional

from apistar_ws.testing.errors import WaitTimeout
from apistar_ws.testing.waits import wait
from apistar_ws.types import Message

#: Seconds that an application may take to start, and to stop.
LIFESPAN_TIMEOUT = 10.0


class Lifespan:
    """The server's side of the lifespan protocol.

    :param app: the application.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._to_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._from_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._task: Optional['asyncio.Task[None]'] = None

    async def start(self) -> None:
        """Start the application.

        :raises Exception: the exception of a hook that failed.
        """
        self._task = asyncio.ensure_future(self._run())
        await self._ask('lifespan.startup')

    async def stop(self) -> None:
        """Stop the application.

        :raises Exception: the exception of a hook that failed.
        """
        await self._ask('lifespan.shutdown')

    async def _run(self) -> None:
        scope = {'type': 'lifespan', 'asgi': {'version': '3.0', 'spec_version': '2.0'}, 'raise_exceptions': True}
        await self._app(scope, self._to_app.get, self._from_app.put)

    async def _ask(self, message_type: str) -> None:
        """Send a lifespan message and wait for the answer; raise the exception of the application."""
        assert self._task is not None
        if self._task.done():
            # An application raises if it does not support the lifespan protocol.
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
    """Start an application before the block of an ``async with``, and stop it afterwards.

    This runs the ``on_startup`` and ``on_shutdown`` hooks. In tests that are not ``async``, use
    ``with TestClient(app)``.

    :param app: the application.
    :raises Exception: the exception of a hook that failed.
    """
    life = Lifespan(app)
    await life.start()
    try:
        yield
    finally:
        await life.stop()
