"""The client's side of a WebSocket to an application on the same event loop."""

import asyncio
import contextlib
import contextvars
import json
import weakref
from http import HTTPStatus
from typing import Any, AsyncContextManager, AsyncIterator, Callable, Dict, Iterator, Optional, Sequence

from apistar import http

from apistar_ws.testing.calls import AsyncOpening, warn_of_misspelt_query
from apistar_ws.testing.errors import ConnectionClosed, HandshakeDenied, TasksLeft, WaitTimeout
from apistar_ws.testing.scope import HeaderMapping, handshake_scope, header_pairs
from apistar_ws.testing.tasks import describe_task, start_tracking, started_tasks, stop_tracking
from apistar_ws.testing.waits import wait
from apistar_ws.types import Data, Message

#: Default seconds that a wait may take; a handler may run for one second after its client has left.
TIMEOUT = 2.0


class Connection:
    """The client's side of a WebSocket to an application in this process.

    Made by :func:`connect`; the connection of ``TestClient`` has the same methods without ``await``.

    :param app: the application.
    :param scope: the ASGI scope of the handshake.
    :param timeout: seconds that each wait may take.
    :param raises: whether unexpected exceptions of the handler are raised in the test.
    """

    def __init__(
        self, app: Callable[..., Any], scope: Dict[str, Any], timeout: float = TIMEOUT, raises: bool = True
    ) -> None:
        #: The subprotocol that the application accepted, or None.
        self.subprotocol: Optional[str] = None
        #: The headers of the application's answer.
        self.headers = http.Headers()
        #: Seconds that each wait may take.
        self.timeout = timeout
        self._raises = raises
        self._app = app
        self._scope = {**scope, 'raise_exceptions': raises}
        self._to_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._from_app: 'asyncio.Queue[Message]' = asyncio.Queue()
        self._closed: Optional[ConnectionClosed] = None
        self._is_disconnected = False
        self._is_result_raised = False
        self._exit_error: Optional[BaseException] = None
        #: The task of the handler, and those that it started.
        self._task: 'asyncio.Task[None]'
        self._tasks: 'weakref.WeakSet[asyncio.Task[Any]]' = weakref.WeakSet()

    async def send(self, data: Data) -> None:
        """Send text or bytes to the application.

        :raises ConnectionClosed: if the test has received that the application closed the connection.
        :raises TypeError: for other types.
        """
        if not isinstance(data, (str, bytes)):
            raise TypeError('A client sends text or bytes, not %s: send_json() sends JSON.' % type(data).__name__)
        if self._closed is not None:
            raise self._closed
        kind = 'text' if isinstance(data, str) else 'bytes'
        self._to_app.put_nowait({'type': 'websocket.receive', kind: data})

    async def send_json(self, value: Any) -> None:
        """Send ``value`` as JSON text."""
        await self.send(json.dumps(value))

    async def receive(self) -> Data:
        """Return the next message of the application.

        An unexpected exception of the handler is raised here, with its traceback; with ``raises=False`` the test sees
        the close with 1011 instead, as a client would.

        :raises ConnectionClosed: if the application closed the connection.
        :raises WaitTimeout: if it did neither in time.
        """
        if self._closed is not None:
            raise self._closed
        message = await self._next('a message')
        if message['type'] == 'websocket.close':
            self._closed = ConnectionClosed(message.get('code', 1000), message.get('reason') or '')
            await self._wait_for_handler()
            raise self._closed
        text = message.get('text')
        data: Data = text if text is not None else message['bytes']
        return data

    async def receive_json(self) -> Any:
        """Return the value of the next message, which must be JSON."""
        return json.loads(await self.receive())

    def __aiter__(self) -> AsyncIterator[Data]:
        return self

    async def __anext__(self) -> Data:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def close(self, code: int = 1000, reason: str = '') -> None:
        """Close the connection and wait until the handler has ended. Leaving the block does it too.

        :param code: the close code that the handler sees.
        :param reason: the close reason that the handler sees.
        :raises WaitTimeout: if the handler does not end in time.
        :raises TasksLeft: if the handler left tasks running.
        """
        self._disconnect(code, reason)
        await self._wait_for_handler()

    def _disconnect(self, code: int, reason: str) -> None:
        if not self._is_disconnected:
            self._is_disconnected = True
            self._to_app.put_nowait({'type': 'websocket.disconnect', 'code': code, 'reason': reason})

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._receive_from_app)
        except (SystemExit, KeyboardInterrupt) as exc:
            # asyncio would raise them out of the event loop; the test gets them where it waits.
            self._exit_error = exc
        finally:
            self._from_app.put_nowait({'type': 'ended'})

    async def _receive_from_app(self, message: Message) -> None:
        if self._is_disconnected:
            # As servers do, each with a different error.
            raise OSError('The client has left.')
        if message['type'] == 'websocket.close':
            self._disconnect(message.get('code', 1000), message.get('reason') or '')
        self._from_app.put_nowait(message)

    async def _next(self, awaited: str) -> Message:
        """Return the next message of the application, or raise the exception of its handler."""
        getting = asyncio.ensure_future(self._from_app.get())
        try:
            if not await wait({getting}, self.timeout):
                raise self._timeout_error('Waited %g seconds for %s' % (self.timeout, awaited))
        finally:
            getting.cancel()
        message = getting.result()
        if message['type'] != 'ended':
            return message
        await self._wait_for_handler()
        raise ConnectionClosed(1006, 'the application returned')

    def _queued(self) -> Iterator[Message]:
        while not self._from_app.empty():
            yield self._from_app.get_nowait()

    async def _wait_for_handler(self) -> None:
        """Wait for the handler, check that it left no tasks running, and raise its exception."""
        if not await wait({self._task}, self.timeout):
            raise await self._give_up()
        await self._check_tasks()
        stop_tracking(self)
        # Raise it only once: a test that expected it then leaves the block without an error.
        if not self._is_result_raised:
            self._is_result_raised = True
            if self._exit_error is not None:
                raise self._exit_error
            self._task.result()

    async def _give_up(self) -> WaitTimeout:
        error = self._timeout_error('Waited %g seconds for the handler to end' % self.timeout)
        await abandon(self)
        return error

    async def _check_tasks(self) -> None:
        # Tasks that were just cancelled end in the next iteration of the event loop.
        await asyncio.sleep(0)
        left = [task for task in self._tasks if not task.done()]
        if left:
            places = '\n'.join(describe_task(task, 'A task') for task in left)
            await abandon(self)
            raise TasksLeft('The handler left %d task(s) running:\n%s' % (len(left), places))

    def _timeout_error(self, awaited: str) -> WaitTimeout:
        return WaitTimeout('%s of %s.\n%s' % (awaited, self._scope['path'], describe_task(self._task, 'The handler')))


async def open_connection(connection: Connection) -> None:
    """Send the handshake of a connection and wait for the answer.

    :raises HandshakeDenied: if the application denies the handshake.
    """
    start_tracking(connection)
    context = contextvars.copy_context()
    context.run(started_tasks.set, connection._tasks)
    connection._task = context.run(asyncio.ensure_future, connection._run())
    connection._to_app.put_nowait({'type': 'websocket.connect'})
    message = await connection._next('an answer to the handshake')
    if message['type'] == 'websocket.accept':
        connection.subprotocol = message.get('subprotocol')
        connection.headers = header_pairs(message.get('headers', []))
        return
    await connection._wait_for_handler()
    if message['type'] == 'websocket.http.response.start':
        body = b''.join([message.get('body', b'') for message in connection._queued()])
        raise HandshakeDenied(message['status'], header_pairs(message.get('headers', [])), body)
    raise HandshakeDenied(HTTPStatus.FORBIDDEN)


async def abandon(connection: Connection) -> None:
    """Cancel the handler of a connection and its tasks, whatever they are doing."""
    stop_tracking(connection)
    running = [task for task in connection._tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await wait(set(running), connection.timeout)


def connect(
    app: Callable[..., Any],
    url: str,
    subprotocols: Sequence[str] = (),
    headers: Optional[HeaderMapping] = None,
    timeout: float = TIMEOUT,
    raises: bool = True,
) -> AsyncContextManager[Connection]:
    """Open a WebSocket to ``app`` in this event loop, for tests that are ``async`` themselves.

    Use it with ``async with``; leaving the block closes the connection and waits for the handler.

    :param app: the application.
    :param url: the path with its query string, or a whole URL.
    :param subprotocols: the subprotocols that the client offers.
    :param headers: headers of the handshake; bytes are sent unchanged.
    :param timeout: seconds that each wait may take.
    :param raises: whether exceptions of the handler are raised in the test. If False, the test sees the close with
        1011, as a client would.
    :raises HandshakeDenied: if the application denies the handshake.
    """
    scope = handshake_scope(url, subprotocols, list((headers or {}).items()))
    warn_of_misspelt_query(app, scope)
    return AsyncOpening(_opened(Connection(app, scope, timeout, raises)))


@contextlib.asynccontextmanager
async def _opened(connection: Connection) -> AsyncIterator[Connection]:
    """Open a connection for the block of an ``async with``."""
    try:
        await open_connection(connection)
        yield connection
    except BaseException:
        await abandon(connection)
        raise
    await connection.close()
