"""Components that yield: resources that are closed at the end of the connection, or over HTTP of the request."""

import asyncio
import collections.abc
import contextlib
import inspect
import logging
import typing
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

from apistar.exceptions import ConfigurationError
from apistar.server.asgi import ASGIScope
from apistar.server.components import Component

from apistar_ws.exceptions import leaf_exceptions
from apistar_ws.injection.signatures import describe_handler, handler_signature, with_resolved_annotations
from apistar_ws.interruption import TimeLimit, ends_from_outside, was_withdrawn

logger = logging.getLogger('apistar_ws')

#: Seconds for closing resources after a cancellation.
UNWIND_TIMEOUT = 1.8
#: The key of the open resources in the scope of a connection or request.
OPENED = 'apistar_ws.opened'
#: Generic types that annotate the ``resolve`` of a component that yields.
_YIELDS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)

#: Called with a failure, and the function that failed.
_OnFailure = Callable[[BaseException, Any], None]


class _OpenedResource(NamedTuple):
    """An open resource: the ``resolve`` of its component, and the context manager that closes it."""

    resolve: Callable[..., Any]
    context: Any

    async def close(self, exc: Optional[BaseException]) -> bool:
        """Resume the component after its ``yield``, which raises ``exc`` if there is one.

        :return: whether the component has caught ``exc``.
        :raises BaseException: an exception of the component other than ``exc``.
        """
        exc_info = (None, None, None) if exc is None else (type(exc), exc, exc.__traceback__)
        leave = self.context.__exit__ if hasattr(self.context, '__exit__') else self.context.__aexit__
        try:
            result = leave(*exc_info)
            return bool(await result if inspect.isawaitable(result) else result)
        except BaseException as failure:
            # A task group raises an exception group.
            if any(leaf is not exc for leaf in leaf_exceptions(failure)):
                raise
            return False


class OpenedResources(List[_OpenedResource]):
    """The resources of one connection or request, in the order in which they were opened."""


class OpenedResourcesComponent(Component):  # type: ignore[misc]
    """Supplies the list of open resources."""

    def resolve(self, scope: ASGIScope) -> OpenedResources:
        """Return the list of this connection or request."""
        opened: OpenedResources = scope.setdefault(OPENED, OpenedResources())
        return opened


class Resource(Component):  # type: ignore[misc]
    """Replaces a component whose ``resolve`` yields: supplies the yielded value, and adds it to the open resources.

    :param component: the component.
    :param components: all components of the application.
    :raises ConfigurationError: for a component without a return annotation.
    """

    def __init__(self, component: Component, components: Sequence[Component] = ()) -> None:
        self._component = component
        signature = handler_signature(component.resolve, components)
        self._supplies = _supplied_type(signature.return_annotation)
        overrides = type(component).can_handle_parameter is not Component.can_handle_parameter
        if self._supplies is signature.empty and not overrides:
            raise ConfigurationError(
                'The component %s yields and does not say what: annotate it, as in -> Iterator[Session].'
                % describe_handler(component.resolve)
            )
        self.can_handle_parameter = component.can_handle_parameter if overrides else self._can_handle
        self.identity = component.identity
        self.resolve = _open_function(component.resolve, signature)

    def _can_handle(self, parameter: inspect.Parameter) -> bool:
        return parameter.annotation is self._supplies


class _ResolvedComponent(Component):  # type: ignore[misc]
    """Replaces a component whose annotations are strings, with annotations that are resolved.

    :param component: the component.
    :param components: all components of the application.
    """

    def __init__(self, component: Component, components: Sequence[Component] = ()) -> None:
        for name in ('can_handle_parameter', 'identity'):
            if getattr(type(component), name) is not getattr(Component, name):
                setattr(self, name, getattr(component, name))
        self.resolve = with_resolved_annotations(component.resolve, components)


def _open_function(resolve: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Return the function that opens a resource; the injector also gives it the list of open resources."""

    def open_now(apistar_ws_opened: OpenedResources, **arguments: Any) -> Any:
        context = contextlib.contextmanager(resolve)(**arguments)
        value = context.__enter__()
        apistar_ws_opened.append(_OpenedResource(resolve, context))
        return value

    async def open_async(apistar_ws_opened: OpenedResources, **arguments: Any) -> Any:
        context = contextlib.asynccontextmanager(resolve)(**arguments)
        value = await context.__aenter__()
        apistar_ws_opened.append(_OpenedResource(resolve, context))
        return value

    opener: Any = open_async if inspect.isasyncgenfunction(resolve) else open_now
    opened = inspect.Parameter('apistar_ws_opened', inspect.Parameter.KEYWORD_ONLY, annotation=OpenedResources)
    opener.__signature__ = signature.replace(
        parameters=[*signature.parameters.values(), opened], return_annotation=signature.empty
    )
    opener.__module__, opener.__qualname__, opener.__name__ = resolve.__module__, resolve.__qualname__, resolve.__name__
    return opener  # type: ignore[no-any-return]


def _supplied_type(annotation: Any) -> Any:
    """Return ``S`` for the annotations ``Iterator[S]``, ``AsyncIterator[S]`` and ``S``; empty for ``Iterator``."""
    if annotation not in _YIELDS and typing.get_origin(annotation) not in _YIELDS:
        return annotation
    return next(iter(typing.get_args(annotation)), inspect.Signature.empty)


def with_resources(components: Iterable[Component]) -> List[Component]:
    """Return ``components`` with replacements for those that yield or whose annotations are strings."""
    components = list(components)
    found = [_replacement_for(component, components) for component in components]
    kinds = {type(component) for component in found}
    if Resource in kinds and OpenedResourcesComponent not in kinds:
        found.append(OpenedResourcesComponent())
    return found


def _replacement_for(component: Component, components: Sequence[Component]) -> Component:
    """Return ``component``, or a replacement that API Star's injector can use."""
    if _is_resource(component):
        return Resource(component, components)
    is_resolved = with_resolved_annotations(component.resolve) == component.resolve
    return component if is_resolved else _ResolvedComponent(component, components)


def _is_resource(component: Component) -> bool:
    """Return whether the ``resolve`` of ``component`` yields."""
    resolve = component.resolve
    return inspect.isgeneratorfunction(resolve) or inspect.isasyncgenfunction(resolve)


def opened_in(scope: Dict[str, Any]) -> OpenedResources:
    """Return the resources that are open for a connection or request."""
    opened: OpenedResources = scope.get(OPENED) or OpenedResources()
    return opened


async def close_in_turn(opened: OpenedResources, exc: Optional[BaseException], on_failure: _OnFailure) -> None:
    """Close ``opened``, the last one first, with ``exc`` if the handler raised it.

    :param on_failure: called with a failure.
    :raises BaseException: the failure; the remaining resources stay open.
    """
    while opened:
        resource = opened.pop()
        try:
            await resource.close(exc)
        except BaseException as failure:
            on_failure(failure, resource.resolve)
            raise


async def unwind(opened: OpenedResources, exc: Optional[BaseException]) -> Optional[BaseException]:
    """Close ``opened``, the last one first, and return the exception that is left.

    Each resource may catch or replace ``exc``, like nested ``with`` blocks: a task group or a time limit in a resource
    converts its own cancellation into the failure.
    """
    while opened:
        try:
            if await opened.pop().close(exc):
                exc = None
        except BaseException as failure:
            exc = failure
    return exc


async def unwind_cancelled(opened: OpenedResources, exc: BaseException) -> Optional[BaseException]:
    """Close ``opened`` after a cancellation, and return the exception that it has become, or None.

    A task group or a time limit in a resource cancels the task, and withdraws that when the resource is closed.
    """
    result: Optional[BaseException] = exc
    # A resource that takes too long is cancelled, and may convert that like any exception.
    with contextlib.suppress(TimeoutError), TimeLimit(UNWIND_TIMEOUT):
        result = await unwind(opened, exc)
    try:
        if was_withdrawn(result):
            return result
        if result is not None and not isinstance(result, asyncio.CancelledError):
            logger.error('A resource failed when it was closed.', exc_info=result)
        return exc
    finally:
        del exc, result


async def close_all(opened: OpenedResources, on_failure: _OnFailure) -> None:
    """Close ``opened`` after a success; if one fails, close the others with its failure.

    :param on_failure: called with the failure.
    :raises BaseException: the failure.
    """
    try:
        await close_in_turn(opened, None, on_failure)
    except BaseException as failure:
        await close_rest(opened, failure)
        raise


async def close_rest(opened: OpenedResources, exc: Optional[BaseException]) -> None:
    """Close all of ``opened``, the last one first, with ``exc``; failures are logged and do not stop the rest.

    :raises BaseException: an exception that ends this task from outside.
    """
    stop: Optional[BaseException] = None
    while opened:
        resource = opened.pop()
        try:
            await resource.close(exc)
        except BaseException as failure:
            logger.error('%s failed when it was closed.', describe_handler(resource.resolve), exc_info=failure)
            if ends_from_outside(failure):
                stop = failure
    if stop is not None:
        raise stop
