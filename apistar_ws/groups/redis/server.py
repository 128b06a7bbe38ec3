"""Where a Redis is, by its URL, and how it is connected to."""

from typing import Any, Callable, List
from urllib.parse import parse_qs, urlsplit

from apistar.exceptions import ConfigurationError
from redis.asyncio import ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeout

#: Seconds in which all connections have to be there.
CONNECT_TIMEOUT = 5.0
#: Options of redis-py's connections that the URL must not set.
FIXED = frozenset(
    ['protocol', 'decode_responses', 'encoding', 'socket_timeout', 'socket_connect_timeout', 'health_check_interval',
     'retry_on_timeout', 'max_connections', 'client_name']
)  # fmt: skip


class Server:
    """A Redis at one address.

    :param url: as redis-py has it.
    :raises ConfigurationError: for a URL that cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._pool = connection_pool(url)
        self.database = int(self._pool.connection_kwargs.get('db') or 0)

    def explained(self, exc: Exception) -> Exception:
        """Return why it cannot be connected to, with what to do where that says little."""
        is_tls = issubclass(self._pool.connection_class, SSLConnection)
        # A port that does not speak TLS answers nothing, or what OpenSSL takes for another version.
        if is_tls and (isinstance(exc, (TimeoutError, RedisTimeout)) or 'version' in str(exc).lower()):
            return ConnectionError('%s If the port does not speak TLS, the URL begins with redis://' % exc)
        return exc

    async def connections(self) -> List[Any]:
        """Return the three connections of a session, not connected yet."""
        make: Any = self._pool.make_connection
        return [make() for _ in range(3)]

    async def watch(self, on_failure: Callable[[Exception], None]) -> None:
        """Call ``on_failure`` when another server takes its place; nobody says so of a fixed address."""


def check_database(url: str) -> None:
    """Refuse the name of a database that is no number: redis-py would take 0.

    :raises ConfigurationError: naming it.
    """
    parts = urlsplit(url)
    name = parts.path.strip('/')
    if parts.scheme != 'unix' and name and not (name.isascii() and name.isdigit()):
        raise ConfigurationError('GroupsComponent: the URL names the database %r, which has to be a number.' % name)


def connection_pool(url: str) -> ConnectionPool:
    """Return what makes connections to ``url``, with every default of redis-py given, since they change.

    :raises ConfigurationError: for a URL that is none of a single Redis; without the URL, which may hold a password.
    """
    try:
        fixed = FIXED.intersection(parse_qs(urlsplit(url).query))
        if fixed:
            raise ConfigurationError('GroupsComponent: the URL sets %s, which is not for it to set.' % ', '.join(fixed))
        check_database(url)
        return ConnectionPool.from_url(
            url, protocol=2, decode_responses=False, socket_timeout=None, socket_connect_timeout=CONNECT_TIMEOUT,
            health_check_interval=0, retry=Retry(NoBackoff(), 0), retry_on_error=[], client_name='apistar-ws',
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError):
        raise ConfigurationError(
            'GroupsComponent: the URL is not one of redis-py for a single Redis: redis://, rediss:// or unix://, '
            'or redis+sentinel:// for one that Sentinels watch.'
        ) from None
