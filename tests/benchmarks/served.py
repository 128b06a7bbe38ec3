"""The server process of one contender: uvicorn on a free port of the loopback, the same for all.

``python -m tests.benchmarks.served starlette`` prints the port and serves until its standard input ends.
"""

import socket
import sys
import threading
from typing import Any, Dict

import uvicorn

from tests.benchmarks.contenders import load
from tests.benchmarks.limits import raise_file_limit

#: What uvicorn is told, by the names of its ``Config``; of its command line, with dashes for underscores.
OPTIONS: Dict[str, Any] = {
    'ws': 'websockets-sansio',
    'http': 'httptools',
    'loop': 'asyncio',
    'access_log': False,
    'log_level': 'warning',
}
BACKLOG = 2048


def listen() -> socket.socket:
    """Return a listening socket on a free port."""
    # Of the protocol TCP by name: only for such sockets asyncio switches Nagle's algorithm off.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(('127.0.0.1', 0))
    sock.listen(BACKLOG)
    return sock


def stop_at_end_of_input(server: uvicorn.Server) -> None:
    """Stop ``server`` when whoever started it is gone or wants it gone."""
    sys.stdin.read()
    server.should_exit = True


def main(contender: str) -> None:
    """Serve the conversations of a contender."""
    raise_file_limit()
    server = uvicorn.Server(uvicorn.Config(load(contender).conversations(), **OPTIONS))
    sock = listen()
    print(sock.getsockname()[1], flush=True)
    threading.Thread(target=stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run(sockets=[sock])


if __name__ == '__main__':
    main(sys.argv[1])
