"""Where the groups of an event loop come from: one hub, and one engine, for each."""

import asyncio
import importlib
import logging
import os
import sys
from typing import Any, Dict, Mapping, Optional, Set, Tuple
from urllib.parse import urlsplit

from apistar.exceptions import ConfigurationError

from apistar_ws.groups.engine import Engine
from apistar_ws.groups.hub import Hub
from apistar_ws.groups.memory import MemoryEngine
from apistar_ws.groups.settings import Namespaces
from apistar_ws.messages.codecs import json_codec

logger = logging.getLogger('apistar_ws')

#: The remote engines: the schemes of their URLs, the module, the class, and what is installed for them.
REDIS = ('redis', 'rediss', 'unix', 'redis+sentinel', 'rediss+sentinel')
ENGINES = ((REDIS, 'apistar_ws.groups.redis.engine', 'RedisEngine', 'redis'),)


class Hubs:
    """Makes the hub of each event loop when it is asked for.

    :param url: of a Redis, or None.
    :param options: those of ``GroupsComponent``.
    :param where: where they were given, for errors.
    :raises ConfigurationError: for a setting or a value that is not known, or without redis-py.
    """

    def __init__(self, url: Optional[str], options: Mapping[str, Any], where: str) -> None:
        self._url = url
        self._namespaces = Namespaces(options, where)
        self._codec = json_codec(self._namespaces.shared.json)
        self._hubs: Dict[asyncio.AbstractEventLoop, Tuple[int, Hub]] = {}
        self._warnings: Set[str] = set()
        if url is not None:
            remote_engine(url).check_url(url)

    def current(self) -> Hub:
        """Return the hub of the running event loop."""
        loop = asyncio.get_running_loop()
        pid, hub = self._hubs.get(loop, (0, None))
        if hub is None or pid != os.getpid():
            # After a fork, the connections are the parent's; a loop that is closed needs no groups any more.
            self._hubs = {other: found for other, found in self._hubs.items() if not other.is_closed()}
            hub = Hub(self._namespaces, self._codec, self._engine)
            self._hubs[loop] = os.getpid(), hub
        return hub

    def _engine(self, hub: Hub) -> Engine:
        if self._url is None:
            self._warn_of_siblings()
            self._warn_of_loops()
            return MemoryEngine(self._namespaces, hub)
        made: Engine = remote_engine(self._url)(self._url, self._namespaces, hub)
        return made

    def _warn_of_siblings(self) -> None:
        if has_siblings(sys.argv, os.environ):
            self._warn_once(
                'GroupsComponent() is for one process, and this is one of several workers: what is sent here does not '
                "reach the members of the others. Give all of them GroupsComponent('redis://...')."
            )

    def _warn_once(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            logger.warning(message)

    def _warn_of_loops(self) -> None:
        """Warn where another event loop of the process has groups too: a room is split."""
        if any(pid == os.getpid() for pid, _ in self._hubs.values()):
            self._warn_once(
                'GroupsComponent() is for one event loop, and a second one of this process uses it: what is sent in '
                "one does not reach the members in the other. Use one event loop, or GroupsComponent('redis://...')."
            )

    async def stop(self, patience: Optional[float] = None) -> None:
        """End the hub of the running event loop, if there is one: what waits is sent first, within ``patience``."""
        pid, hub = self._hubs.pop(asyncio.get_running_loop(), (0, None))
        if hub is not None and pid == os.getpid():
            await hub.stop(patience)


def remote_engine(url: Any) -> Any:
    """Return the class of the engine for the scheme of ``url``.

    :raises ConfigurationError: for a scheme that none has, and for a package that is missing.
    """
    scheme = urlsplit(url).scheme if isinstance(url, str) else ''
    found = next((engine for engine in ENGINES if scheme in engine[0]), None)
    if found is None:
        known = ', '.join(known + '://' for schemes, *_ in ENGINES for known in schemes)
        raise ConfigurationError('GroupsComponent: the URL is not one of redis-py: it has to begin with %s.' % known)
    _, module, name, extra = found
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as exc:
        raise ConfigurationError(
            "GroupsComponent('%s://...') needs redis-py: pip install 'apistar-ws[%s]' (%s)" % (scheme, extra, exc)
        ) from None


def has_siblings(argv: Any, environ: Mapping[str, str]) -> bool:
    """Tell whether the command line or the environment asks for several workers, of uvicorn, hypercorn or gunicorn."""
    words = [word for arg in argv for word in arg.split('=', 1)]
    counts = [after for word, after in zip(words, words[1:]) if word in ('--workers', '-w')]
    counts.append(environ.get('WEB_CONCURRENCY', ''))
    return any(count.isdigit() and int(count) > 1 for count in counts)
