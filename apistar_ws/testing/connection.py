"""The client's end of a WebSocket to an application in the same event loop."""

import asyncio
import contextlib
import contextvars
import json
import weakref
from http import HTTPStatus
from typing import Any, AsyncContextManager, AsyncIterator, Callable, Dict, Iterator, Mapping, Optional, Sequence

from apistar import http

from apistar_ws.testing.calls import AsyncOpening, warn_of_misspelt_query
from apistar_ws.testing.errors import ConnectionClosed, HandshakeDenied, TasksLeft, WaitTimeout
from apistar_ws.testing.scope import HeaderPart, handshake_scope, header_pairs
from apistar_ws.testing.tasks import describe_task, start_tracking, started_tasks, stop_tracking
from apistar_ws.testing.waits import wait
from apistar_ws.types import Data, Message

#: Seconds that a wait may take, unless the test says otherwise; a handler whose client left may take one to end.
TIMEOUT = 2.0


class Connection:
    """The client's end of a WebSocket to an application in this process.

    Made by :func:`connect`; the connection of ``TestClient`` has the same methods without ``await``.

    :param app: the application.
    :param scope: the ASGI scope of the handshake.
    :param timeout: seconds that each wait may take.
    :param raises: whether what the handler raises unexpectedly is raised in the test.
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
        self._left = False
        self._ended = False
        self._exit: Optional[BaseException] = None
        #: The task of the handler, and those that it started.
        self._task: 'asyncio.Task[None]'
        self._tasks: 'weakref.WeakSet[asyncio.Task[Any]]' = weakref.WeakSet()

    async def send(self, data: Data) -> None:
        """Send text or bytes to the application.

        :raises ConnectionClosed: if it has closed the connection, and that was received.
        :raises TypeError: for what is neither; nothing is sent.
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

        What the handler raises unexpectedly is raised here, with its traceback; with ``raises=False`` a test sees the
        close with 1011 instead, as a client would.

        :raises ConnectionClosed: if it closed the connection instead.
        :raises WaitTimeout: if it does neither in time.
        """
        if self._closed is not None:
            raise self._closed
        message = await self._next('a message')
        if message['type'] == 'websocket.close':
            self._closed = ConnectionClosed(message.get('code', 1000), message.get('reason') or '')
            await self._end()
            raise self._closed
        text = message.get('text')
        data: Data = text if text is not None else message['bytes']
        return data

    async def receive_json(self) -> Any:
        """Return the value of the next message, which has to be JSON."""
        return json.loads(await self.receive())

    def __aiter__(self) -> AsyncIterator[Data]:
        return self

    async def __anext__(self) -> Data:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def close(self, code: int = 1000, reason: str = '') -> None:
        """Close the connection and wait until the handler has ended; leaving the block does it.

        :param code: the close code that the handler sees.
        :param reason: the close reason that the handler sees.
        :raises WaitTimeout: if the handler does not end in time.
        :raises TasksLeft: if it left tasks running.
        """
        self._leave(code, reason)
        await self._end()

    def _leave(self, code: int, reason: str) -> None:
        if not self._left:
            self._left = True
            self._to_app.put_nowait({'type': 'websocket.disconnect', 'code': code, 'reason': reason})

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._receive_from_app)
        except (SystemExit, KeyboardInterrupt) as exc:
            # They would end the event loop here and now; the test sees them where it waits.
            self._exit = exc
        finally:
            self._from_app.put_nowait({'type': 'ended'})

    async def _receive_from_app(self, message: Message) -> None:
        if self._left:
            # What servers do, each with an error of its own.
            raise OSError('The client has left.')
        if message['type'] == 'websocket.close':
            self._leave(message.get('code', 1000), message.get('reason') or '')
        self._from_app.put_nowait(message)

    async def _next(self, what: str) -> Message:
        """Return what the application sends next; raise what its handler raised instead."""
        getting = asyncio.ensure_future(self._from_app.get())
        try:
            if not await wait({getting}, self.timeout):
                raise self._timed_out('Waited %g seconds for %s' % (self.timeout, what))
        finally:
            getting.cancel()
        message = getting.result()
        if message['type'] != 'ended':
            return message
        await self._end()
        raise ConnectionClosed(1006, 'the application returned')

    def _waiting(self) -> Iterator[Message]:
        while not self._from_app.empty():
            yield self._from_app.get_nowait()

    async def _end(self) -> None:
        """Wait for the handler, raise what it raised, and see that it left nothing running."""
        if not await wait({self._task}, self.timeout):
            raise await self._given_up()
        await self._refuse_leftovers()
        stop_tracking(self)
        # What the handler raised is raised once; a test that expected it may leave the block in peace.
        if not self._ended:
            self._ended = True
            if self._exit is not None:
                raise self._exit
            self._task.result()

    async def _given_up(self) -> WaitTimeout:
        error = self._timed_out('Waited %g seconds for the handler to end' % self.timeout)
        await abandon(self)
        return error

    async def _refuse_leftovers(self) -> None:
        # One turn of the event loop, for tasks that were just told to end.
        await asyncio.sleep(0)
        left = [task for task in self._tasks if not task.done()]
        if left:
            places = '\n'.join(describe_task(task, 'A task') for task in left)
            await abandon(self)
            raise TasksLeft('The handler left %d task(s) running:\n%s' % (len(left), places))

    def _timed_out(self, what: str) -> WaitTimeout:
        return WaitTimeout('%s of %s.\n%s' % (what, self._scope['path'], describe_task(self._task, 'The handler')))


async def open_connection(connection: Connection) -> None:
    """Send the handshake of a connection and wait for the answer.

    :raises HandshakeDenied: if the application refuses.
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
    await connection._end()
    if message['type'] == 'websocket.http.response.start':
        body = b''.join([message.get('body', b'') for message in connection._waiting()])
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
    headers: Optional[Mapping[HeaderPart, HeaderPart]] = None,
    timeout: float = TIMEOUT,
    raises: bool = True,
) -> AsyncContextManager[Connection]:
    """Open a WebSocket to ``app`` in this event loop, for tests that are ``async`` themselves.

    Use it with ``async with``; leaving the block closes the connection and waits for the handler.

    :param app: the application.
    :param url: the path with its query string, or a whole URL.
    :param subprotocols: what the client offers.
    :param headers: headers of the handshake; bytes are sent unchanged.
    :param timeout: seconds that each wait may take.
    :param raises: False to see a close with 1011 where the handler fails, and not what it raised.
    :raises HandshakeDenied: if the application refuses.
    """
    scope = handshake_scope(url, subprotocols, list((headers or {}).items()))
    warn_of_misspelt_query(app, scope)
    return AsyncOpening(opened(Connection(app, scope, timeout, raises)))


@contextlib.asynccontextmanager
async def opened(connection: Connection) -> AsyncIterator[Connection]:
    """Open a connection before the block of an ``async with``, and close it after it; see :func:`connect`."""
    try:
        await open_connection(connection)
        yield connection
    except BaseException:
        await abandon(connection)
        raise
    await connection.close()
