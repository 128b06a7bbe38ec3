"""Parameters of the path, query parameters and headers that the handshake of a route takes."""

import inspect
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set, Tuple

from apistar import http
from apistar.server.components import Component

from apistar_ws.asyncapi.jsonschema import is_json, jsonable
from apistar_ws.injection.arguments import path_names
from apistar_ws.injection.signatures import handler_signature
from apistar_ws.messages.codecs import primitive

#: JSON Schemas for the annotations of parameters.
_SCHEMAS = {
    str: {'type': 'string'},
    int: {'type': 'integer'},
    float: {'type': 'number'},
    bool: {'type': 'boolean'},
    http.QueryParam: {'type': 'string'},
    http.Header: {'type': 'string'},
    inspect.Parameter.empty: {'type': 'string'},
}


class Argument(NamedTuple):
    """A parameter or a header of a handshake."""

    name: str
    #: ``path``, ``query`` or ``header``.
    place: str
    schema: Dict[str, Any]
    required: bool


def arguments_of(handler: Any, url: str, components: Sequence[Component], hooks: Iterable[Any]) -> List[Argument]:
    """Return the arguments that a handler, its components and the hooks take from the handshake."""
    in_path = path_names(url)
    found: Dict[Tuple[str, str], Argument] = {}
    for function, is_handler in [(handler, True), *((hook, False) for hook in hooks)]:
        for parameter in _parameters_of(function, components, set()):
            for argument in _arguments_of_parameter(parameter, in_path, is_handler):
                found.setdefault((argument.place, argument.name), argument)
    for name in in_path:
        found.setdefault(('path', name), Argument(name, 'path', {'type': 'string'}, True))
    order = ['path', 'query', 'header']
    return sorted(found.values(), key=lambda argument: order.index(argument.place))


def _parameters_of(function: Any, components: Sequence[Component], seen: Set[int]) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a function and, for those that a component supplies, the parameters of the component."""
    for parameter in handler_signature(function).parameters.values():
        component = next((item for item in components if _supplies(item, parameter)), None)
        if component is None or parameter.annotation in _SCHEMAS:
            yield parameter
        elif id(component) not in seen:
            seen.add(id(component))
            yield from _parameters_of(component.resolve, components, seen)


def _supplies(component: Component, parameter: inspect.Parameter) -> bool:
    """Return whether a component supplies a parameter, which may have an annotation that it does not expect."""
    try:
        return bool(component.can_handle_parameter(parameter))
    except Exception:
        return False


def _arguments_of_parameter(
    parameter: inspect.Parameter, in_path: Sequence[str], is_handler: bool
) -> Iterator[Argument]:
    """Yield the argument of the handshake that a parameter is for, if any."""
    annotation, name = parameter.annotation, parameter.name
    if annotation is http.Header:
        place, name = 'header', name.replace('_', '-')
    elif annotation is http.QueryParam:
        place = 'query'
    elif annotation in _SCHEMAS and is_handler:
        place = 'path' if name in in_path else 'query'
    else:
        return
    schema, required = dict(_SCHEMAS[annotation]), parameter.default is parameter.empty
    default = primitive(parameter.default)
    if not required and default is not None and is_json(default):
        schema['default'] = jsonable(default)
    yield Argument(name, place, schema, required)
