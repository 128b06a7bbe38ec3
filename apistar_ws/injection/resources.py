"""Components that yield: what they supply is closed when the connection, or over HTTP the request, has ended."""

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
from apistar_ws.injection.signatures import describe_handler, handler_signature, readable
from apistar_ws.interruption import ends_from_outside

logger = logging.getLogger('apistar_ws')

#: Where the resources of a connection or request are, in its scope.
OPENED = 'apistar_ws.opened'
YIELDS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


#: What is told of a failure, and of the function that has failed.
Note = Callable[[BaseException, Any], None]


class Opened(NamedTuple):
    """A resource that was opened, and the component that closes it."""

    resolve: Callable[..., Any]
    context: Any

    async def close(self, exc: Optional[BaseException]) -> bool:
        """Resume the component behind its ``yield``, with ``exc`` raised there if there is one.

        :return: whether the component has caught ``exc``.
        :raises BaseException: what the component raises, if that is another one than ``exc``.
        """
        told = (None, None, None) if exc is None else (type(exc), exc, exc.__traceback__)
        ended = self.context.__exit__ if hasattr(self.context, '__exit__') else self.context.__aexit__
        try:
            result = ended(*told)
            return bool(await result if inspect.isawaitable(result) else result)
        except BaseException as failure:
            # A task group makes a group of what passes through it.
            if any(leaf is not exc for leaf in leaf_exceptions(failure)):
                raise
            return False


class OpenedResources(List[Opened]):
    """The resources of one connection or request, in the order in which they were opened."""


class OpenedResourcesComponent(Component):  # type: ignore[misc]
    """Supplies the list that a resource is added to."""

    def resolve(self, scope: ASGIScope) -> OpenedResources:
        """Return the list of this connection or request."""
        opened: OpenedResources = scope.setdefault(OPENED, OpenedResources())
        return opened


class Resource(Component):  # type: ignore[misc]
    """Stands for a component whose ``resolve`` yields: supplies what it yields, and notes that it has to be closed.

    :param component: the component.
    :param components: all of the application.
    """

    def __init__(self, component: Component, components: Sequence[Component] = ()) -> None:
        self._component = component
        signature = handler_signature(component.resolve, components)
        self._supplies = yielded(signature.return_annotation)
        overrides = type(component).can_handle_parameter is not Component.can_handle_parameter
        if signature.return_annotation is signature.empty and not overrides:
            raise ConfigurationError(
                'The component %s yields and does not say what: annotate it, as in -> Iterator[Session].'
                % describe_handler(component.resolve)
            )
        self.can_handle_parameter = component.can_handle_parameter if overrides else self._can_handle
        self.identity = component.identity
        self.resolve = opener(component.resolve, signature)

    def _can_handle(self, parameter: inspect.Parameter) -> bool:
        return parameter.annotation is self._supplies


class Readable(Component):  # type: ignore[misc]
    """Stands for a component whose annotations are strings, and has them resolved.

    :param component: the component.
    :param components: all of the application.
    """

    def __init__(self, component: Component, components: Sequence[Component] = ()) -> None:
        for name in ('can_handle_parameter', 'identity'):
            if getattr(type(component), name) is not getattr(Component, name):
                setattr(self, name, getattr(component, name))
        self.resolve = readable(component.resolve, components)


def opener(resolve: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Return the function that opens a resource, for the injector: it asks for the list of them too."""

    def open_now(apistar_ws_opened: OpenedResources, **arguments: Any) -> Any:
        context = contextlib.contextmanager(resolve)(**arguments)
        value = context.__enter__()
        apistar_ws_opened.append(Opened(resolve, context))
        return value

    async def open_async(apistar_ws_opened: OpenedResources, **arguments: Any) -> Any:
        context = contextlib.asynccontextmanager(resolve)(**arguments)
        value = await context.__aenter__()
        apistar_ws_opened.append(Opened(resolve, context))
        return value

    asks: Any = open_async if inspect.isasyncgenfunction(resolve) else open_now
    opened = inspect.Parameter('apistar_ws_opened', inspect.Parameter.KEYWORD_ONLY, annotation=OpenedResources)
    asks.__signature__ = signature.replace(
        parameters=[*signature.parameters.values(), opened], return_annotation=signature.empty
    )
    asks.__module__, asks.__qualname__, asks.__name__ = resolve.__module__, resolve.__qualname__, resolve.__name__
    return asks  # type: ignore[no-any-return]


def yielded(annotation: Any) -> Any:
    """Return what a component supplies that is annotated ``Iterator[S]``, ``AsyncIterator[S]``, or ``S`` itself."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) in YIELDS else annotation


def with_resources(components: Iterable[Component]) -> List[Component]:
    """Return ``components`` with what stands for those that yield, or have strings for annotations, in their place."""
    components = list(components)
    found = [stand_in_for(component, components) for component in components]
    kinds = {type(component) for component in found}
    if Resource in kinds and OpenedResourcesComponent not in kinds:
        found.append(OpenedResourcesComponent())
    return found


def stand_in_for(component: Component, components: Sequence[Component]) -> Component:
    """Return ``component``, or what API Star's injector can use in its place."""
    if is_resource(component):
        return Resource(component, components)
    return component if readable(component.resolve) == component.resolve else Readable(component, components)


def is_resource(component: Component) -> bool:
    """Return whether the ``resolve`` of ``component`` yields."""
    resolve = component.resolve
    return inspect.isgeneratorfunction(resolve) or inspect.isasyncgenfunction(resolve)


def opened_in(scope: Dict[str, Any]) -> OpenedResources:
    """Return the resources that are open for a connection or request."""
    opened: OpenedResources = scope.get(OPENED) or OpenedResources()
    return opened


async def close_in_turn(opened: OpenedResources, exc: Optional[BaseException], note: Note) -> None:
    """Close ``opened``, the last one first, with ``exc`` if that has ended what they were for.

    :param note: is told of a failure.
    :raises BaseException: that failure; the others are still open then.
    """
    while opened:
        resource = opened.pop()
        try:
            await resource.close(exc)
        except BaseException as failure:
            note(failure, resource.resolve)
            raise


async def unwind(opened: OpenedResources, exc: Optional[BaseException]) -> Optional[BaseException]:
    """Close ``opened``, the last one first, each with what the one after it has made of ``exc``, and return the rest.

    A task group or a time limit inside a resource turns its own cancellation into what has failed.
    """
    while opened:
        try:
            if await opened.pop().close(exc):
                exc = None
        except BaseException as failure:
            exc = failure
    return exc


async def close_all(opened: OpenedResources, note: Note) -> None:
    """Close ``opened`` after a success; if one fails, the others are closed with its failure.

    :param note: is told of the failure.
    :raises BaseException: that failure.
    """
    try:
        await close_in_turn(opened, None, note)
    except BaseException as failure:
        await close_rest(opened, failure)
        raise


async def close_rest(opened: OpenedResources, exc: Optional[BaseException]) -> None:
    """Close ``opened``, the last one first, with ``exc``, each whatever becomes of the others; a failure is logged.

    :raises BaseException: what ends this task from outside meanwhile.
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
