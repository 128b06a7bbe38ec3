"""The contenders: the same applications, written as each framework's documentation would have them.

Each module has ``VERSION_OF``, the package it stands for; ``MISSING``, the rows it cannot take part in and why;
and makes three applications. ``build(count)`` has routes ``/chat0/{room}`` and up, which echo one text and close.
``conversations()`` has ``/chat/{room}``, the same, and ``/talk/{room}``, ``/each/{room}`` and ``/json/{room}``,
which echo until the client leaves; ``/sleep/{room}``, which sleeps; and ``/limited/{room}``, which echoes, of those
that have limits of time to set. ``guarded()`` has ``/chat0/{room}`` behind two guards, with three values
derived from the request: a user and a locale from headers, and a limit from the query string.
"""

import importlib
from collections import deque
from typing import Any, Deque

BARE = 'bare'
OURS = 'ours'
STARLETTE = 'starlette'
TITLES = {
    OURS: 'apistar-ws',
    STARLETTE: 'Starlette',
    'fastapi': 'FastAPI',
    'litestar': 'Litestar',
    'flama': 'Flama',
    BARE: 'bare ASGI',
}

#: What the last handler was given: the room, or everything that was derived from the request.
visited: Deque[Any] = deque(maxlen=1)
#: Seconds that a sleeping handler sleeps: longer than any measurement takes.
SLEEP = 3600.0
#: Why a contender has no ``/limited/{room}``.
NO_LIMITS = 'it has no limits of time to set for a WebSocket'
#: The hosts that the guarded applications serve.
HOSTS = ('chat.example.com',)


def load(name: str) -> Any:
    """Return the module of a contender; raises what its package raises where it is missing or broken."""
    return importlib.import_module('%s.%s' % (__name__, name))
