"""Real servers for tests: started on a free port, waited for by their own word, stopped at the end."""

import asyncio
import contextlib
import logging
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

import uvicorn

#: Where the event loop tells of them.
logger = logging.getLogger('asyncio')

#: uvicorn's WebSocket implementations.
IMPLEMENTATIONS = ('websockets-sansio', 'websockets', 'wsproto')
#: Seconds for a server to start or stop; far more than it takes.
PATIENCE = 20.0
ROOT = pathlib.Path(__file__).resolve().parent.parent


def eventually(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Return what ``condition`` gives as soon as that is true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError('Waited %g seconds for %s.' % (timeout, what))  # pragma: no cover


def log_in_a_line(loop: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
    """Log what the default handler does, but for the traceback."""
    logger.error('%s: %r', context['message'], {key: context[key] for key in context if key != 'message'})


class Uvicorn(uvicorn.Server):
    """uvicorn, whose failed tasks are logged without a traceback.

    They are logged when they are collected, which may be while a rule of werkzeug is compiled; and where a traceback is
    made then, Python 3.11 calls the syntax tree of the rule broken (CPython's issue 106905).
    """

    async def serve(self, sockets: Optional[List[socket.socket]] = None) -> None:
        asyncio.get_running_loop().set_exception_handler(log_in_a_line)
        await super().serve(sockets)


class Server:
    """A uvicorn in a thread of this process."""

    def __init__(self, app: Any, ws: str = 'websockets-sansio', **options: Any) -> None:
        config = uvicorn.Config(app, ws=ws, log_config=None, **{'host': '127.0.0.1', 'port': 0, **options})
        self.uvicorn = Uvicorn(config)
        self._thread = threading.Thread(target=self.uvicorn.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        eventually(lambda: self.uvicorn.started or not self._thread.is_alive(), 'uvicorn to start')
        assert self.uvicorn.started

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), 'uvicorn did not stop'

    @property
    def port(self) -> int:
        return int(self.uvicorn.servers[0].sockets[0].getsockname()[1])

    @property
    def ws_url(self) -> str:
        return 'ws://127.0.0.1:%d' % self.port

    @property
    def http_url(self) -> str:
        return 'http://127.0.0.1:%d' % self.port


@contextlib.contextmanager
def serving(app: Any, ws: str = 'websockets-sansio', **options: Any) -> Iterator[Server]:
    """Serve ``app`` with uvicorn for the length of the block."""
    server = Server(app, ws, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(('127.0.0.1', 0))
        return int(sock.getsockname()[1])


class Process:
    """A server in a process of its own."""

    def __init__(self, command: List[str], port: int, env: Optional[Dict[str, str]] = None) -> None:
        self.port = port
        paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
        self.popen = subprocess.Popen(
            [sys.executable, '-W', 'ignore', *command],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ''

    def is_listening(self) -> bool:
        assert self.popen.poll() is None, self.read()
        with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(('127.0.0.1', self.port), 1)):
            return True
        return False

    def read(self) -> str:
        """Return what the process printed, once it has ended."""
        if not self.output:
            self.output = self.popen.communicate(timeout=PATIENCE)[0]
        return self.output

    def stop(self) -> str:
        """End the process as a supervisor would, and return what it printed."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            return self.read()
        except subprocess.TimeoutExpired:  # pragma: no cover
            self.popen.kill()
            raise


@contextlib.contextmanager
def process(command: List[str], port: int, env: Optional[Dict[str, str]] = None) -> Iterator[Process]:
    """Run a server in a process of its own for the length of the block."""
    running = Process(command, port, env)
    try:
        eventually(running.is_listening, '%s to listen' % command[1])
        yield running
    finally:
        running.stop()
