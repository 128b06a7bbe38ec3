"""``collect_routes``, and the classes of routes."""

import inspect
import types as python_types
from typing import (
    Any,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
)

import apistar
from apistar.exceptions import ConfigurationError

from apistar_ws.injection.signatures import describe_handler, with_resolved_annotations
from apistar_ws.routing.decorators import is_decorated, wrapped_chain


class Route(apistar.Route):  # type: ignore[misc]
    """API Star's ``Route`` for HTTP, for handlers whose annotations are strings.

    Use it instead of ``apistar.Route`` in a module with ``from __future__ import annotations``: there API Star's class
    fails with ``KeyError: 'str'`` if the URL has a parameter.

    :param url: its path.
    :param method: the HTTP method.
    :param handler: the handler.
    :param name: this and the other arguments are those of API Star's ``Route``.
    :raises ConfigurationError: for a name that the module of the handler does not have.
    """

    def generate_link(self, url: str, method: str, handler: Any, name: str) -> Any:
        """Return the description of the route in the schema; called by API Star."""
        return super().generate_link(url, method, with_resolved_annotations(handler), name)


class _UnroutableMethod(str):
    """A method that raises when a router for HTTP adds it to its set of methods."""

    def __hash__(self) -> int:
        raise ConfigurationError(
            'A WebSocket route is among the routes of an application that serves HTTP only, such as apistar.ASyncApp: '
            'use apistar_ws.ASyncApp in its place, with the same arguments.'
        )


class HandshakeMethod(str):
    """``GET``, the method of a handshake (RFC 6455 section 4.1), which a router for HTTP refuses."""

    def upper(self) -> _UnroutableMethod:
        """Return a method that makes API Star's own router fail at once, and not at the first request."""
        return _UnroutableMethod(self)


class WebSocketRoute(apistar.Route):  # type: ignore[misc]
    """API Star's ``Route`` for a WebSocket: standalone, and in no schema, since OpenAPI has no WebSockets.

    Made by :func:`collect_routes`; use it like any other ``Route``.

    :param url: its path.
    :param handler: the decorated handler.
    :param name: its name; by default the name of the handler.
    """

    def __init__(self, url: str, handler: Any, name: Optional[str] = None) -> None:
        super().__init__(url, HandshakeMethod('GET'), handler, name=name, documented=False, standalone=True)

    def generate_link(self, url: str, method: str, handler: Any, name: str) -> None:
        """Return None, so that the route is not in API Star's schema, even inside an ``Include``."""


def collect_routes(*sources: Any) -> List[apistar.Route]:
    """Return API Star routes for the decorated handlers in ``sources``, in the order of their definition.

    Concatenate the list with other routes, or put it in an ``Include``. Each call makes new routes, so that several
    applications can have the same handlers.

    :param sources: decorated handlers, modules, objects with decorated methods, or iterables or mappings
        (``globals()``) of them. Handlers that a module imports are not collected from it.
    :raises ConfigurationError: for any other source.
    """
    routes: List[apistar.Route] = []
    seen = set()
    for handler in _find_handlers(sources):
        key = (id(handler.declarations), id(getattr(handler, '__self__', None)))
        if key not in seen:
            seen.add(key)
            routes += [WebSocketRoute(declared.url, handler, declared.name) for declared in handler.declarations]
    return routes


def _find_handlers(sources: Iterable[Any]) -> Iterator[Any]:
    """Yield the decorated handlers in ``sources``, methods bound to their object.

    :raises ConfigurationError: for a source without any.
    """
    for source in sources:
        if is_decorated(source):
            yield source
        elif isinstance(source, python_types.ModuleType):
            yield from _find_in_mapping(vars(source))
        elif isinstance(source, Mapping):
            yield from _find_in_mapping(source)
        elif _decorated_methods(source):
            yield from (getattr(source, name) for name in _decorated_methods(source))
        elif isinstance(source, Iterable) and not isinstance(source, (str, bytes, type)):
            yield from _find_handlers(source)
        else:
            _refuse_hidden(source)
            raise ConfigurationError(
                'There is nothing to collect from %r: give a handler decorated with websocket_route, a module, '
                'or an instance of a class with such methods.' % (source,)
            )


def _find_in_mapping(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    """Yield the decorated handlers among the values; for a module, only those that it defines."""
    module = mapping.get('__name__')
    for value in list(mapping.values()):
        _refuse_hidden(value)
        if module is None and (isinstance(value, (python_types.ModuleType, list, tuple)) or _decorated_methods(value)):
            yield from _find_handlers([value])
        elif is_decorated(value) and module in (None, value.__module__):
            yield value


def _decorated_methods(source: Any) -> List[str]:
    """Return the names of the decorated methods of an object, in the order of their definition."""
    names = dict.fromkeys(name for base in reversed(type(source).__mro__) for name in vars(base))
    members = {name: inspect.getattr_static(source, name, None) for name in names}
    decorated = [name for name, member in members.items() if is_decorated(member)]
    for member in members.values() if decorated else ():
        _refuse_hidden(member)
    return decorated


def _refuse_hidden(value: Any) -> None:
    """Refuse a decorated handler below another decorator, since its route would be missing silently.

    :raises ConfigurationError: naming the handler.
    """
    is_wrapper = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
    if is_wrapper and not is_decorated(value) and any(is_decorated(inner) for inner in wrapped_chain(value)):
        raise ConfigurationError(
            'The handler %s has a decorator above websocket_route, which hides its route: '
            'put websocket_route on top.' % describe_handler(value)
        )
