"""What a function asks for, as API Star understands it, and its name in a sentence."""

import inspect
from typing import Any

from apistar.exceptions import ConfigurationError

from apistar_ws.messages import union_members


def describe_handler(handler: Any) -> str:
    """Return the name of a handler for an error: its module and qualified name."""
    return '%s.%s' % (getattr(handler, '__module__', '?'), getattr(handler, '__qualname__', repr(handler)))


def handler_signature(handler: Any) -> inspect.Signature:
    """Return the signature of ``handler`` as API Star understands it.

    Annotations that are strings are resolved; ``Optional[X]`` and ``X | None`` become ``X`` with a default of
    None.

    :raises ConfigurationError: for a name that the module of the handler does not have.
    """
    try:
        signature = inspect.signature(handler, eval_str=True)
    except Exception as exc:
        raise ConfigurationError(
            'An annotation of %s cannot be resolved: %s. Names in annotations have to be importable '
            'from the module of the handler.' % (describe_handler(handler), exc)
        ) from None
    return signature.replace(parameters=[plain_parameter(parameter) for parameter in signature.parameters.values()])


def plain_parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return ``parameter`` with ``Optional[X]`` replaced by ``X`` and a default of None."""
    choices = union_members(parameter.annotation)
    if len(choices) != 1 or choices[0] is parameter.annotation:
        return parameter
    default = None if parameter.default is parameter.empty else parameter.default
    return parameter.replace(annotation=choices[0], default=default)
