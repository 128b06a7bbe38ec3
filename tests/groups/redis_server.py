"""A Redis that a test starts, kills, freezes, and puts things in front of."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from typing import Any, Iterator, List, Optional

from tests.needs import REDIS
from tests.servers import PATIENCE, eventually, free_port


class RedisServer:
    """A Redis on a port of its own."""

    def __init__(self, directory: Any, *options: str, port: Optional[int] = None, config: Any = None) -> None:
        self.port = port or free_port()
        self.directory = str(directory)
        self.options = options
        #: The file of a Sentinel, which rewrites it.
        self.config = config
        self.popen: Optional['subprocess.Popen[bytes]'] = None

    @property
    def url(self) -> str:
        return 'redis://127.0.0.1:%d' % self.port

    def start(self) -> None:
        assert REDIS, 'Everything is required, but redis-server is missing.'
        command = [REDIS, '--port', str(self.port), '--dir', self.directory, '--save', '', '--bind', '127.0.0.1']
        if self.config is not None:
            command = [REDIS, str(self.config), '--sentinel', '--port', str(self.port), '--bind', '127.0.0.1']
        self.popen = subprocess.Popen(
            [*command, *self.options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        eventually(self.answers, 'Redis to start')

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return b'PONG' in self.command('PING')
        return False

    def command(self, *words: str, until: Optional[bytes] = None) -> bytes:
        """Return what Redis answers, as it is on the wire; a list as far as ``until`` and what belongs to that."""
        parts = [word.encode() for word in words]
        request = b'*%d\r\n' % len(parts) + b''.join(b'$%d\r\n%s\r\n' % (len(part), part) for part in parts)
        with contextlib.closing(socket.create_connection(('127.0.0.1', self.port), PATIENCE)) as sock:
            sock.sendall(request)
            sock.settimeout(PATIENCE)
            answer = b''
            while not is_whole(answer) or (until is not None and until not in answer and answer[:1] == b'*'):
                piece = sock.recv(65536)
                assert piece, answer
                answer += piece
            return answer

    def keys(self, prefix: str) -> List[str]:
        """Return the keys that begin with a prefix, without blanks in their names."""
        script = "return table.concat(redis.call('KEYS', ARGV[1]), ' ')"
        return self.command('EVAL', script, '0', prefix + ':*').decode().split()[1:]

    def flood(self, channel: str, payload: str, times: int, messages: int) -> None:
        """Publish so many messages in each tenth of a second, so many times."""
        once = ''.join('$%d\r\n%s\r\n' % (len(part), part) for part in ('PUBLISH', channel, payload))
        batch, answers = ('*3\r\n' + once).encode() * messages, 0
        with contextlib.closing(socket.create_connection(('127.0.0.1', self.port), PATIENCE)) as sock:
            began = time.monotonic()
            for number in range(times):
                time.sleep(max(0.0, began + number / 10 - time.monotonic()))
                sock.sendall(batch)
                while answers < (number + 1) * messages:
                    answers += sock.recv(65536).count(b'\n')

    def waits_for_writes(self) -> bool:
        """Tell whether a command waits for the end of a pause."""
        return not re.search(r'blocked_clients:0\b', self.command('INFO', 'clients').decode())

    def connections_made(self) -> int:
        """Return how many connections it has had so far."""
        found = re.search(r'total_connections_received:(\d+)', self.command('INFO', 'stats').decode())
        assert found is not None
        return int(found[1])

    def errors(self, kind: str) -> int:
        """Return how many commands it has answered with an error that begins so."""
        found = re.search(r'errorstat_%s:count=(\d+)' % kind, self.command('INFO', 'errorstats').decode())
        return int(found[1]) if found else 0

    def kill(self) -> None:
        """End it at once, as a power cut does."""
        assert self.popen is not None
        self.popen.kill()
        self.popen.wait(PATIENCE)
        self.popen = None

    def freeze(self) -> None:
        assert self.popen is not None
        os.kill(self.popen.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.popen is not None
        os.kill(self.popen.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.popen is not None:
            self.thaw()
            self.kill()


def is_whole(answer: bytes) -> bool:
    """Tell whether an answer of Redis is complete: the few forms that the tests ask for."""
    head, found, rest = answer.partition(b'\r\n')
    if not found:
        return False
    if head[:1] == b'$':
        return head == b'$-1' or len(rest) >= int(head[1:]) + 2
    return True


@contextlib.contextmanager
def redis_server(directory: Any, *options: str) -> Iterator[RedisServer]:
    """Run a Redis for the length of the block."""
    server = RedisServer(directory, *options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Proxy:
    """Stands between an engine and Redis; cuts connections, or swallows what passes."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: List[asyncio.StreamWriter] = []
        #: The ports for the next connections, before the usual one; how many there were.
        self.targets: List[int] = []
        self.accepted = 0
        #: Whether what the client sends, and what Redis answers, passes.
        self.passes_commands = self.passes_answers = True

    async def __aenter__(self) -> 'Proxy':
        self._server = await asyncio.start_server(self._serve, '127.0.0.1', 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = 'redis://127.0.0.1:%d' % self.port
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        port = self.targets.pop(0) if self.targets else self._target
        to_reader, to_writer = await asyncio.open_connection('127.0.0.1', port)
        self._writers += (writer, to_writer)
        await asyncio.gather(
            self._pass(reader, to_writer, 'passes_commands'), self._pass(to_reader, writer, 'passes_answers')
        )

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: str) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                if getattr(self, passes):
                    writer.write(piece)
        writer.transport.abort()


async def until(condition: Any, what: str, timeout: float = PATIENCE) -> Any:
    """Return what ``condition`` gives as soon as that is true; the event loop goes on meanwhile."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        await asyncio.sleep(0.005)
    raise AssertionError('Waited %g seconds for %s.' % (timeout, what))  # pragma: no cover
