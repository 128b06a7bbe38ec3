"""Errors and warnings for mistaken calls of the test client, with the correct call."""

import difflib
import warnings
from typing import Any, AsyncContextManager, ContextManager, Dict, Generic, NoReturn, TypeVar
from urllib.parse import parse_qsl

T = TypeVar('T')


class _Unopened:
    """A connection that was not opened by a ``with`` block: any other use raises an error.

    :param advice: how to open it.
    """

    _is_used = False

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __getattr__(self, name: str) -> NoReturn:
        self._is_used = True
        raise AttributeError('There is no %s yet: %s' % (name, self._advice))

    def __iter__(self) -> NoReturn:
        self._is_used = True
        raise TypeError('There is no connection yet: %s' % self._advice)

    __aiter__ = __await__ = __iter__

    def __del__(self) -> None:
        if not self._is_used:
            warnings.warn('No connection was opened: %s' % self._advice, RuntimeWarning, 2)


class Opening(_Unopened, Generic[T]):
    """The result of ``websocket_connect``.

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


class AsyncOpening(_Unopened, Generic[T]):
    """The result of ``connect``.

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
    """Warn if a name in the query string looks like a misspelt query parameter of the handler."""
    lifecycle = getattr(app, 'websocket_lifecycle', None)
    declared = () if lifecycle is None else lifecycle.query_names(scope['path'])
    names = [name for name, _ in parse_qsl(scope['query_string'].decode(), keep_blank_values=True)]
    missing = [name for name in declared if name not in names]
    for name in names:
        similar = difflib.get_close_matches(name, missing, 1) if name not in declared else ()
        if similar:
            warnings.warn(
                'The handler of %s declares no query parameter %r: did you mean %r? It declares: %s.'
                % (scope['path'], name, similar[0], ', '.join(declared)), stacklevel=3,
            )  # fmt: skip
