"""A Redis or Valkey of the benchmark's own, on a free port, which keeps nothing."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Iterator, Optional

from redis import Redis

#: Seconds that it may take to start.
PATIENCE = 10.0


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(port: int, process: 'subprocess.Popen[bytes]') -> None:
    """Return when somebody listens on ``port``; raise if that takes too long."""
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(('127.0.0.1', port), 1.0).close()
            return
        time.sleep(0.02)
    raise RuntimeError('%s did not start' % process.args)


@contextlib.contextmanager
def redis_server() -> Iterator[Optional[str]]:
    """Run a Redis and yield its URL; None where there is none on the path."""
    program = shutil.which('redis-server') or shutil.which('valkey-server')
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ['--port', str(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port, process)
            yield 'redis://127.0.0.1:%d/0' % port
        finally:
            process.terminate()
            process.wait()


def redis_title(url: str) -> str:
    """Return the name and the version of a Redis."""
    with Redis.from_url(url) as client:
        info = client.info('server')
    name = 'Valkey' if 'valkey_version' in info else 'Redis'
    return '%s %s' % (name, info.get('valkey_version', info['redis_version']))
