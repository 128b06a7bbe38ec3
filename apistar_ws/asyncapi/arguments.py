"""What the handshake of a route has to hold: parameters of the path, the query, and headers."""

import inspect
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

from apistar import http
from apistar.server.components import Component

from apistar_ws.asyncapi.jsonschema import is_json, jsonable
from apistar_ws.injection.arguments import path_names
from apistar_ws.injection.signatures import handler_signature
from apistar_ws.messages.codecs import primitive

#: The schema of each annotation that a path or a query may have.
TYPES = {
    str: {'type': 'string'},
    int: {'type': 'integer'},
    float: {'type': 'number'},
    bool: {'type': 'boolean'},
    http.QueryParam: {'type': 'string'},
    http.Header: {'type': 'string'},
    inspect.Parameter.empty: {'type': 'string'},
}


class Argument(NamedTuple):
    """One value of a handshake."""

    name: str
    #: ``path``, ``query`` or ``header``.
    place: str
    schema: Dict[str, Any]
    required: bool


def arguments_of(handler: Any, url: str, components: Sequence[Component], hooks: Iterable[Any]) -> List[Argument]:
    """Return what the handshake of a route has to hold: for its handler, its components and the hooks before it."""
    in_path = path_names(url)
    found: Dict[Tuple[str, str], Argument] = {}
    for function, is_handler in [(handler, True), *((hook, False) for hook in hooks)]:
        for parameter in parameters_of(function, components, set()):
            for argument in argument_of(parameter, in_path, is_handler):
                found.setdefault((argument.place, argument.name), argument)
    for name in in_path:
        found.setdefault(('path', name), Argument(name, 'path', {'type': 'string'}, True))
    order = ['path', 'query', 'header']
    return sorted(found.values(), key=lambda argument: order.index(argument.place))


def parameters_of(function: Any, components: Sequence[Component], seen: Set[int]) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a function, and of the components that supply others of it."""
    for parameter in handler_signature(function).parameters.values():
        component = next((item for item in components if supplies(item, parameter)), None)
        if component is None or parameter.annotation in TYPES:
            yield parameter
        elif id(component) not in seen:
            seen.add(id(component))
            yield from parameters_of(component.resolve, components, seen)


def supplies(component: Component, parameter: inspect.Parameter) -> bool:
    """Return whether a component supplies a parameter; it may be one that API Star asks no component for."""
    try:
        return bool(component.can_handle_parameter(parameter))
    except Exception:
        return False


def argument_of(parameter: inspect.Parameter, in_path: Sequence[str], is_handler: bool) -> Iterator[Argument]:
    """Yield what a parameter takes from the handshake, if it does."""
    annotation, name = parameter.annotation, parameter.name
    if annotation is http.Header:
        place, name = 'header', name.replace('_', '-')
    elif annotation is http.QueryParam:
        place = 'query'
    elif annotation in TYPES and is_handler:
        place = 'path' if name in in_path else 'query'
    else:
        return
    schema, required = dict(TYPES[annotation]), parameter.default is parameter.empty
    default = primitive(parameter.default)
    if not required and default is not None and is_json(default):
        schema['default'] = jsonable(default)
    yield Argument(name, place, schema, required)
