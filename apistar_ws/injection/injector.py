"""API Star's injector, with the steps that supply the arguments of functions compiled once."""

import difflib
import inspect
from types import MappingProxyType
from typing import (
    Any,
    Awaitable,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    Tuple,
)

from apistar.exceptions import ConfigurationError
from apistar.server import injector
from apistar.server.components import Component

from apistar_ws.injection.resources import with_resources
from apistar_ws.injection.signatures import describe_handler, with_resolved_annotations
from apistar_ws.injection.steps import Run, State, Step, compiled_steps

Handler = Callable[..., Awaitable[Any]]

#: Names of the methods that an event hook may have.
_REQUEST_HOOK_NAMES = ('on_request', 'on_response', 'on_error')
_HOOK_NAMES = (*_REQUEST_HOOK_NAMES, 'on_startup', 'on_shutdown')
#: The maximum number of cached plans; an application has a few.
MAX_PLANS = 1000
_NO_ALIASES: Mapping[Any, str] = MappingProxyType({})


def require_known_hooks(hook: Any) -> None:
    """Refuse an event hook with a misspelt method, or without any method that is called, since it may be a guard.

    :raises ConfigurationError: naming the hook.
    """
    kind = hook if isinstance(hook, type) else type(hook)
    for name in dir(hook):
        like = difflib.get_close_matches(name, _HOOK_NAMES, 1, 0.8)
        if name not in _HOOK_NAMES and like and callable(getattr(hook, name)):
            raise ConfigurationError(
                'The event hook %s has a method %s, which nobody calls: did you mean %s?'
                % (describe_handler(kind), name, like[0])
            )
    if issubclass(kind, Component) and not any(hasattr(hook, name) for name in _REQUEST_HOOK_NAMES):
        raise ConfigurationError(
            'event_hooks holds the component %s: give it to components=, which runs its on_startup and on_shutdown too.'
            % describe_handler(kind)
        )
    # An instance may set its methods itself.
    if not (_has_hooks(hook) or (isinstance(hook, type) and _has_hooks(hook()))):
        raise ConfigurationError(
            'The event hook %s has none of the methods that are called: %s.'
            % (describe_handler(kind), ', '.join(_HOOK_NAMES))
        )


def _has_hooks(hook: Any) -> bool:
    """Return whether an event hook has a method that is called."""
    return any(hasattr(hook, name) for name in _HOOK_NAMES)


def require_hook(hook: Any) -> None:
    """Refuse an event hook whose body would never run.

    :raises ConfigurationError: for a generator, plain or async.
    """
    function = inspect.unwrap(getattr(hook, '__func__', hook))
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            'The event hook %s is a generator: API Star would call it and never run its body. Use def or async def, '
            'without yield.' % describe_handler(hook)
        )


class ASyncInjector(injector.ASyncInjector):  # type: ignore[misc]
    """API Star's injector, which caches the steps of a method for all objects that it is bound to.

    Event hooks given as classes are instantiated for every request; API Star's own injector caches the steps of each
    instance for ever.

    :param components: the components; one that yields supplies the yielded value, and is closed at the end.
    :param initial: the types of the initial values of the state, by key.
    :param aliases: further types for these values.
    """

    def __init__(
        self, components: Iterable[Component], initial: Mapping[str, Any], aliases: Mapping[Any, str] = _NO_ALIASES
    ) -> None:
        super().__init__(with_resources(components), initial)
        self.reverse_initial.update(aliases)

    async def run_async(self, funcs: Iterable[Callable[..., Any]], state: State) -> Any:
        """Call ``funcs`` in order with their arguments, and return the value of the last one."""
        funcs = tuple(funcs)
        if not funcs:
            return None
        # An on_error hook may ask for it before there is one; it is None over WSGI too.
        state.setdefault('response', None)
        return await self.runner(funcs, state)(funcs, state)

    def runner(self, funcs: Tuple[Callable[..., Any], ...], state: State) -> Run:
        """Return the function that supplies and calls ``funcs``; it is generated the first time."""
        # Values in the state are not resolved again, so the steps depend on them.
        key = identities(funcs), frozenset(state)
        try:
            run: Run = self.resolver_cache[key]
        except KeyError:
            clear_if_full(self.resolver_cache)
            route = state.get('route')
            title = 'calls of %s' % (describe_handler(funcs[-1]) if route is None else route.method + ' ' + route.url)
            run = self.resolver_cache[key] = compiled_steps(self.resolve_steps(funcs, state), title)
        return run

    def resolve_steps(self, funcs: Iterable[Callable[..., Any]], state: State) -> List[Step]:
        """Return the steps that supply and call ``funcs``."""
        return [
            Step(func, is_async, tuple(kwargs.items()), consts, output, set_return)
            for func, is_async, kwargs, consts, output, set_return in self.resolve_functions(
                [with_resolved_annotations(func, self.components) for func in funcs], state
            )
        ]


def clear_if_full(cache: Dict[Any, Any]) -> None:
    """Clear a cache of plans if it is full, which happens if hooks define new functions for each connection."""
    if len(cache) >= MAX_PLANS:
        cache.clear()


def identities(funcs: Iterable[Callable[..., Any]]) -> Tuple[Any, ...]:
    """Return keys for ``funcs`` that do not depend on the objects to which methods are bound."""
    return tuple([(type(getattr(func, '__self__', None)), getattr(func, '__func__', func)) for func in funcs])
