"""The contenders: the same applications, written as each framework's documentation would have them.

Each module has ``VERSION_OF``, the package it stands for; ``MISSING``, the rows it cannot take part in and why;
and makes three applications. ``build(count)`` has routes ``/chat0/{room}`` and up, which echo one text and close.
``conversations()`` has ``/chat/{room}``, the same, and ``/talk/{room}``, ``/each/{room}`` and ``/json/{room}``,
which echo until the client leaves; ``/sleep/{room}``, which sleeps; and ``/limited/{room}``, which echoes, of those
that have limits of time to set. ``guarded()`` has ``/chat0/{room}`` behind two guards, with three values
derived from the request: a user and a locale from headers, and a limit from the query string. ``counted()`` has the
same path behind a guard that waits and a counter that counts down at the end, with a session from a cookie, an account
that is made of it, and a page of two numbers from the query string.

``typed()`` has routes that take and give messages of declared types until the client leaves. ``/order-instance/{room}``
and ``/order-dict/{room}`` take an order and give a receipt, as an instance of its type and as a dict; with ``-orjson``
after it, by that codec. ``/json-orjson/{room}`` echoes JSON by it. ``/move-instance/{room}`` and ``/move-dict/{room}``
take one of two types, with dates, lists, defaults and nulls. See :mod:`tests.benchmarks.contenders.payloads`.
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
#: Why a contender has no messages of declared types.
NO_TYPES = 'it knows no declared types of messages'
#: The rows with such messages.
TYPED = ('order-instance', 'order-dict', 'order-instance-orjson', 'order-dict-orjson', 'move-instance', 'move-dict')
#: The hosts that the guarded applications serve.
HOSTS = ('chat.example.com',)


def load(name: str) -> Any:
    """Return the module of a contender; raises what its package raises where it is missing or broken."""
    return importlib.import_module('%s.%s' % (__name__, name))
