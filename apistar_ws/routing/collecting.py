"""What collects the routes of decorated handlers, and the routes themselves."""

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

from apistar_ws.injection.signatures import describe_handler, readable
from apistar_ws.routing.decorators import is_marked, wrapped_chain


class Route(apistar.Route):  # type: ignore[misc]
    """API Star's ``Route`` for HTTP, whose handler may have strings for annotations.

    Use it in place of ``apistar.Route`` in a module that says ``from __future__ import annotations``: there API Star's
    own fails with ``KeyError: 'str'`` where the URL has a parameter.

    :param url: its path.
    :param method: the method of HTTP.
    :param handler: the handler.
    :param name: and the others, as for API Star's ``Route``.
    :raises ConfigurationError: for a name that the module of the handler does not have.
    """

    def generate_link(self, url: str, method: str, handler: Any, name: str) -> Any:
        """Return what the schema says of the route; called by API Star."""
        return super().generate_link(url, method, readable(handler), name)


class UnroutableMethod(str):
    """A method that a router for HTTP cannot have in its set of methods."""

    def __hash__(self) -> int:
        raise ConfigurationError(
            'A WebSocket route is among the routes of an application that serves HTTP only, such as apistar.ASyncApp: '
            'use apistar_ws.ASyncApp in its place, with the same arguments.'
        )


class HandshakeMethod(str):
    """``GET``, the method of a handshake (RFC 6455 section 4.1); made a rule for HTTP, it says what is wrong."""

    def upper(self) -> UnroutableMethod:
        """Return what API Star's own router fails with, in place of a path that fails at its first client."""
        return UnroutableMethod(self)


class WebSocketRoute(apistar.Route):  # type: ignore[misc]
    """API Star's ``Route`` for a WebSocket: standalone, and in no schema, since OpenAPI has no WebSockets.

    Made by :func:`collect_routes`; put it wherever a ``Route`` goes.

    :param url: its path.
    :param handler: the decorated handler.
    :param name: its name; the handler's own when left out.
    """

    def __init__(self, url: str, handler: Any, name: Optional[str] = None) -> None:
        super().__init__(url, HandshakeMethod('GET'), handler, name=name, documented=False, standalone=True)

    def generate_link(self, url: str, method: str, handler: Any, name: str) -> None:
        """Return None, which keeps a route out of API Star's schema, also inside an ``Include``."""


def collect_routes(*sources: Any) -> List[apistar.Route]:
    """Return API Star routes for the decorated handlers in ``sources``, in the order of their definition.

    Concatenate the list with other routes or put it in an ``Include``; each call makes new routes, so that
    several applications can be built from the same handlers.

    :param sources: decorated handlers, modules, objects with decorated methods, or iterables or mappings
        (``globals()``) of them. What a module only imported is not collected from it.
    :raises ConfigurationError: for a source that is none of these.
    """
    routes: List[apistar.Route] = []
    seen = set()
    for handler in find_handlers(sources):
        key = (id(handler.declarations), id(getattr(handler, '__self__', None)))
        if key not in seen:
            seen.add(key)
            routes += [WebSocketRoute(declared.url, handler, declared.name) for declared in handler.declarations]
    return routes


def find_handlers(sources: Iterable[Any]) -> Iterator[Any]:
    """Yield the decorated handlers in ``sources``; methods bound to their object.

    :raises ConfigurationError: for a source that is none and has none.
    """
    for source in sources:
        if is_marked(source):
            yield source
        elif isinstance(source, python_types.ModuleType):
            yield from find_in_mapping(vars(source))
        elif isinstance(source, Mapping):
            yield from find_in_mapping(source)
        elif marked_methods(source):
            yield from (getattr(source, name) for name in marked_methods(source))
        elif isinstance(source, Iterable) and not isinstance(source, (str, bytes, type)):
            yield from find_handlers(source)
        else:
            refuse_covered(source)
            raise ConfigurationError(
                'There is nothing to collect from %r: give a handler decorated with websocket_route, a module, '
                'or an instance of a class with such methods.' % (source,)
            )


def find_in_mapping(mapping: Mapping[Any, Any]) -> Iterator[Any]:
    """Yield the decorated handlers among the values; of a module's names, only those that it defines."""
    module = mapping.get('__name__')
    for value in list(mapping.values()):
        refuse_covered(value)
        if module is None and (isinstance(value, (python_types.ModuleType, list, tuple)) or marked_methods(value)):
            yield from find_handlers([value])
        elif is_marked(value) and module in (None, value.__module__):
            yield value


def marked_methods(source: Any) -> List[str]:
    """Return the names of the decorated methods of an object, in the order of their definition."""
    names = dict.fromkeys(name for base in reversed(type(source).__mro__) for name in vars(base))
    members = {name: inspect.getattr_static(source, name, None) for name in names}
    marked = [name for name, member in members.items() if is_marked(member)]
    for member in members.values() if marked else ():
        refuse_covered(member)
    return marked


def refuse_covered(value: Any) -> None:
    """Refuse a decorated handler that another decorator covers, since its route would silently be missing.

    :raises ConfigurationError: naming the handler.
    """
    covers = inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))
    if covers and not is_marked(value) and any(is_marked(inner) for inner in wrapped_chain(value)):
        raise ConfigurationError(
            'The handler %s has a decorator above websocket_route, which hides its route: '
            'put websocket_route on top.' % describe_handler(value)
        )
