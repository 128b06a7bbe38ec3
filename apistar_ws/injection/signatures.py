"""Signatures of handlers and components, as API Star understands them."""

import inspect
from typing import Any, Callable, Iterable, List, Sequence

from apistar.exceptions import ConfigurationError
from apistar.server.components import Component

from apistar_ws.messages.schema import union_members


def describe_handler(handler: Any) -> str:
    """Return the module and qualified name of a handler, for error messages."""
    return '%s.%s' % (getattr(handler, '__module__', '?'), getattr(handler, '__qualname__', repr(handler)))


def handler_signature(handler: Any, components: Sequence[Component] = ()) -> inspect.Signature:
    """Return the signature of ``handler`` as API Star understands it.

    Annotations that are strings are resolved; ``Optional[X]`` and ``X | None`` become ``X`` with a default of None,
    unless one of ``components`` supplies that union.

    :raises ConfigurationError: for a name that the module of the handler does not have.
    """
    signature = resolved_signature(handler)
    parameters = [plain_parameter(parameter, components) for parameter in signature.parameters.values()]
    return signature.replace(parameters=in_order(parameters))


def resolved_signature(handler: Any) -> inspect.Signature:
    """Return the signature of ``handler`` with annotations that are strings resolved.

    :raises ConfigurationError: for a name that the module of the handler does not have.
    """
    try:
        return inspect.signature(handler, eval_str=True)
    except Exception as exc:
        raise ConfigurationError(
            'An annotation of %s cannot be resolved: %s. Names in annotations have to be importable '
            'from the module of the handler.' % (describe_handler(handler), exc)
        ) from None


def in_order(parameters: Iterable[inspect.Parameter]) -> List[inspect.Parameter]:
    """Return parameters in an order that a signature allows, with defaults made keyword-only.

    API Star passes all arguments by name, so the order does not matter.
    """
    given = [
        parameter.replace(kind=parameter.KEYWORD_ONLY)
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is not parameter.empty
        else parameter
        for parameter in parameters
    ]
    return sorted(given, key=lambda parameter: parameter.kind)


def plain_parameter(parameter: inspect.Parameter, components: Sequence[Component] = ()) -> inspect.Parameter:
    """Return ``parameter`` with ``X`` and a default of None for ``Optional[X]``, unless a component supplies that."""
    if isinstance(parameter.annotation, type):
        return parameter
    # API Star compares by identity, and an equal union may be another object.
    for component in components:
        supplied = inspect.signature(component.resolve).return_annotation
        if supplied == parameter.annotation:
            return parameter.replace(annotation=supplied)
    choices = union_members(parameter.annotation)
    if len(choices) != 1 or choices[0] is parameter.annotation:
        return parameter
    if any(component.can_handle_parameter(parameter) for component in components):
        return parameter
    default = None if parameter.default is parameter.empty else parameter.default
    return parameter.replace(annotation=choices[0], default=default)


def with_resolved_annotations(func: Callable[..., Any], components: Sequence[Component] = ()) -> Callable[..., Any]:
    """Return ``func``, or a wrapper with resolved annotations if they are strings.

    API Star does not resolve annotations, and finds no component for a string (PEP 563).

    :raises ConfigurationError: for a name that the module of ``func`` does not have.
    """
    signature = inspect.signature(func)
    annotations = [parameter.annotation for parameter in signature.parameters.values()]
    if not any(isinstance(annotation, str) for annotation in (signature.return_annotation, *annotations)):
        return func

    def call(**arguments: Any) -> Any:
        return func(**arguments)

    async def call_async(**arguments: Any) -> Any:
        return await func(**arguments)

    wrapper: Any = call_async if inspect.iscoroutinefunction(func) else call
    wrapper.__signature__ = handler_signature(func, components)
    wrapper.__name__ = getattr(func, '__name__', type(func).__name__)
    wrapper.__qualname__, wrapper.__module__ = getattr(func, '__qualname__', wrapper.__name__), func.__module__
    return wrapper  # type: ignore[no-any-return]
