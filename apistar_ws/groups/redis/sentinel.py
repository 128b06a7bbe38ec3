"""A Redis that Sentinels watch: the primary is asked for at each session, and a fail-over ends one."""

import asyncio
import logging
from typing import Any, Callable, Dict, List, Tuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from apistar.exceptions import ConfigurationError
from redis.asyncio import Sentinel
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apistar_ws.groups.background import start_task
from apistar_ws.groups.redis.lines import Subscriber
from apistar_ws.groups.redis.server import Server, connection_pool

logger = logging.getLogger('apistar_ws')

#: Seconds that one Sentinel has to answer, and between two attempts to listen to it.
SENTINEL_TIMEOUT, LISTEN_INTERVAL = 0.5, 1.0
SENTINEL_PORT = 26379
SWITCH = b'+switch-master'


class SentinelServer(Server):
    """The primary that Sentinels name.

    :param url: ``redis+sentinel://host:26379,host2:26379/name/0``, or ``rediss+sentinel://``.
    :raises ConfigurationError: for a URL that cannot be used.
    """

    def __init__(self, url: str) -> None:
        scheme, netloc, path, query, _ = urlsplit(url)
        credentials, at, hosts = netloc.rpartition('@')
        self._name, _, database = path.strip('/').partition('/')
        options = dict(parse_qsl(query))
        login = {key: options.pop('sentinel_' + key, None) for key in ('username', 'password')}
        self._addresses = [address_of(host) for host in hosts.split(',')]
        if not self._name:
            raise ConfigurationError(
                'GroupsComponent: the URL of a Sentinel ends in the name of the primary and the number of the '
                'database, redis+sentinel://host:26379,host2:26379/mymaster/0.'
            )
        kind = scheme.partition('+')[0]
        # The host is replaced by the one that the Sentinels name.
        super().__init__('%s://%s%slocalhost/%s?%s' % (kind, credentials, at, database, urlencode(options)))
        tls = {key: value for key, value in options.items() if key.startswith('ssl_')}
        self._pool_of_sentinels = connection_pool('%s://localhost?%s' % (kind, urlencode(tls)))
        self._options: Dict[str, Any] = {'ssl': kind == 'rediss', **tls, **login}
        self._login = {key: value for key, value in login.items() if value is not None}
        #: The primary that was named last.
        self._address = ('', 0)

    async def connections(self) -> List[Any]:
        """Ask the Sentinels for the primary, once; return the three connections of a session, not connected yet."""
        options = {
            'protocol': 2, 'socket_timeout': SENTINEL_TIMEOUT, 'socket_connect_timeout': SENTINEL_TIMEOUT,
            'retry': Retry(NoBackoff(), 0), 'retry_on_error': [], **self._options,
        }  # fmt: skip
        make_sentinel: Any = Sentinel
        sentinel = make_sentinel(self._addresses, sentinel_kwargs=options)
        try:
            self._address = await sentinel.discover_master(self._name)
        except MasterNotFoundError:
            raise ConnectionError('No Sentinel names a primary %r.' % self._name) from None
        finally:
            for client in sentinel.sentinels:
                await client.aclose()
        host, port = self._address
        return [make(self._pool, host, port) for _ in range(3)]

    def explained(self, exc: Exception) -> Exception:
        """Return why it cannot be connected to; whatever the Sentinels name now, they may name another one soon."""
        return ConnectionError(str(exc)) if isinstance(exc, ConfigurationError) else super().explained(exc)

    async def watch(self, on_failure: Callable[[Exception], None]) -> None:
        """Listen to all Sentinels, and call ``on_failure`` when they have promoted another primary."""
        await asyncio.gather(*[self._watch(address, on_failure) for address in self._addresses])

    async def _watch(self, address: Tuple[str, int], on_failure: Callable[[Exception], None]) -> None:
        while True:
            try:
                await self._listen(address, on_failure)
            except (RedisError, OSError):
                logger.debug('A Sentinel cannot be listened to.', exc_info=True)
            await asyncio.sleep(LISTEN_INTERVAL)

    async def _listen(self, address: Tuple[str, int], on_failure: Callable[[Exception], None]) -> None:
        options: Dict[str, Any] = {'socket_connect_timeout': SENTINEL_TIMEOUT, **self._login}
        connection = make(self._pool_of_sentinels, *address, **options)

        def take(channel: bytes, data: bytes) -> None:
            name, *_, host, port = data.decode('utf-8', 'replace').split(' ')
            if name == self._name and (host, port) != (self._address[0], str(self._address[1])):
                on_failure(ConnectionError('The Sentinels have promoted another primary.'))

        try:
            await connection.connect()
            # What is written fails with the connection, and then reading fails too.
            subscriber = Subscriber(connection, take, lambda exc: None)
            subscribing = start_task(subscriber.subscribe([SWITCH], SENTINEL_TIMEOUT))
            subscribing.add_done_callback(lambda done: done.cancelled() or done.exception())
            await subscriber.run()
        finally:
            await connection.disconnect(nowait=True)


def make(pool: Any, host: str, port: int, **options: Any) -> Any:
    """Return a connection as ``pool`` makes them, to another address."""
    return pool.connection_class(**{**pool.connection_kwargs, 'host': host, 'port': port, **options})


def address_of(text: str) -> Tuple[str, int]:
    """Return the host and the port of a Sentinel.

    :raises ConfigurationError: for a text that has none.
    """
    try:
        parts = urlsplit('//' + text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ConfigurationError('GroupsComponent: the URL names no Sentinel, or one whose port is no number.')
    return host, port or SENTINEL_PORT
