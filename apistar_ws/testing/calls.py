"""Mistaken calls of the test client: each has a sentence that names what to write instead."""

import difflib
import warnings
from typing import Any, AsyncContextManager, ContextManager, Dict, Generic, NoReturn, TypeVar
from urllib.parse import parse_qsl

T = TypeVar('T')


class Unopened:
    """A connection that its ``with`` block opens; any other use of it is a mistake.

    :param advice: the sentence for a mistake.
    """

    _is_used = False

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __getattr__(self, name: str) -> Any:
        self._is_used = True
        raise AttributeError('There is no %s yet: %s' % (name, self._advice))

    def __iter__(self) -> NoReturn:
        self._is_used = True
        raise TypeError('There is no connection yet: %s' % self._advice)

    __aiter__ = __await__ = __iter__

    def __del__(self) -> None:
        if not self._is_used:
            warnings.warn('No connection was opened: %s' % self._advice, RuntimeWarning, 2)


class Opening(Unopened, Generic[T]):
    """What ``websocket_connect`` returns.

    :param manager: opens and closes the connection.
    """

    def __init__(self, manager: ContextManager[T]) -> None:
        super().__init__('use with client.websocket_connect(...) as ws.')
        self._manager = manager

    def __enter__(self) -> T:
        """Open the connection."""
        self._is_used = True
        return self._manager.__enter__()

    def __exit__(self, *exc_info: Any) -> Any:
        return self._manager.__exit__(*exc_info)


class AsyncOpening(Unopened, Generic[T]):
    """What ``connect`` returns.

    :param manager: opens and closes the connection.
    """

    def __init__(self, manager: AsyncContextManager[T]) -> None:
        super().__init__('use async with connect(...) as ws.')
        self._manager = manager

    async def __aenter__(self) -> T:
        """Open the connection."""
        self._is_used = True
        return await self._manager.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> Any:
        return await self._manager.__aexit__(*exc_info)


def warn_of_misspelt_query(app: Any, scope: Dict[str, Any]) -> None:
    """Warn where the handler declares no query parameter of a name in the URL, but a similar one that is not there."""
    lifecycle = getattr(app, 'websocket_lifecycle', None)
    known = () if lifecycle is None else lifecycle.query_names(scope['path'])
    given = [name for name, _ in parse_qsl(scope['query_string'].decode(), keep_blank_values=True)]
    missing = [name for name in known if name not in given]
    for name in given:
        meant = difflib.get_close_matches(name, missing, 1) if name not in known else ()
        if meant:
            warnings.warn(
                'The handler of %s declares no query parameter %r: did you mean %r? It declares: %s.'
                % (scope['path'], name, meant[0], ', '.join(known)), stacklevel=3,
            )  # fmt: skip
