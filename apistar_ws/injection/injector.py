"""API Star's dependency injection, decided once: what a handler asks for, and the steps that supply it."""

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
from apistar_ws.injection.signatures import describe_handler, readable
from apistar_ws.injection.steps import Run, State, Step, compiled_steps

Handler = Callable[..., Awaitable[Any]]

#: What an event hook may have.
REQUEST_HOOK_NAMES = ('on_request', 'on_response', 'on_error')
HOOK_NAMES = (*REQUEST_HOOK_NAMES, 'on_startup', 'on_shutdown')
#: Combinations of hooks and components that are remembered; an application has a few.
MAX_PLANS = 1000
NO_ALIASES: Mapping[Any, str] = MappingProxyType({})


def require_known_hooks(hook: Any) -> None:
    """Refuse an event hook with a method whose name is misspelt, or with none that is called: it may be a guard.

    :raises ConfigurationError: naming the hook.
    """
    kind = hook if isinstance(hook, type) else type(hook)
    for name in dir(hook):
        like = difflib.get_close_matches(name, HOOK_NAMES, 1, 0.8)
        if name not in HOOK_NAMES and like and callable(getattr(hook, name)):
            raise ConfigurationError(
                'The event hook %s has a method %s, which nobody calls: did you mean %s?'
                % (describe_handler(kind), name, like[0])
            )
    if issubclass(kind, Component) and not any(hasattr(hook, name) for name in REQUEST_HOOK_NAMES):
        raise ConfigurationError(
            'event_hooks holds the component %s: give it to components=, which runs its on_startup and on_shutdown too.'
            % describe_handler(kind)
        )
    # An instance may set its methods itself.
    if not (has_hooks(hook) or (isinstance(hook, type) and has_hooks(hook()))):
        raise ConfigurationError(
            'The event hook %s has none of the methods that are called: %s.'
            % (describe_handler(kind), ', '.join(HOOK_NAMES))
        )


def has_hooks(hook: Any) -> bool:
    """Return whether an event hook has a method that is called."""
    return any(hasattr(hook, name) for name in HOOK_NAMES)


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
    """API Star's injector, with steps remembered by what is called, not by which object it is bound to.

    Event hooks given as classes are instantiated for every request; API Star's own injector remembers the steps
    of each instance for ever.

    :param components: the components; of one that yields, what it yields is supplied, and closed at the end.
    :param initial: what the state has from the beginning, by its key there.
    :param aliases: more types that stand for such a value.
    """

    def __init__(
        self, components: Iterable[Component], initial: Mapping[str, Any], aliases: Mapping[Any, str] = NO_ALIASES
    ) -> None:
        super().__init__(with_resources(components), initial)
        self.reverse_initial.update(aliases)

    async def run_async(self, funcs: Iterable[Callable[..., Any]], state: State) -> Any:
        """Call ``funcs`` one after the other with what they ask for, and return what the last returned."""
        funcs = tuple(funcs)
        if not funcs:
            return None
        # An on_error hook may ask for it where none was made; over WSGI it is None there too.
        state.setdefault('response', None)
        return await self.runner(funcs, state)(funcs, state)

    def runner(self, funcs: Tuple[Callable[..., Any], ...], state: State) -> Run:
        """Return what supplies and calls ``funcs``, written when such functions are seen for the first time."""
        # What is in the state already is not resolved again, so the steps depend on it.
        key = identities(funcs), frozenset(state)
        try:
            run: Run = self.resolver_cache[key]
        except KeyError:
            forget_if_many(self.resolver_cache)
            route = state.get('route')
            title = 'calls of %s' % (describe_handler(funcs[-1]) if route is None else route.method + ' ' + route.url)
            run = self.resolver_cache[key] = compiled_steps(self.resolve_steps(funcs, state), title)
        return run

    def resolve_steps(self, funcs: Iterable[Callable[..., Any]], state: State) -> List[Step]:
        """Return the steps that supply ``funcs``."""
        return [
            Step(func, is_async, tuple(kwargs.items()), consts, output, set_return)
            for func, is_async, kwargs, consts, output, set_return in self.resolve_functions(
                [readable(func, self.components) for func in funcs], state
            )
        ]


def forget_if_many(remembered: Dict[Any, Any]) -> None:
    """Keep what is remembered within bounds, where hooks make new functions for each connection."""
    if len(remembered) >= MAX_PLANS:
        remembered.clear()


def identities(funcs: Iterable[Callable[..., Any]]) -> Tuple[Any, ...]:
    """Return what ``funcs`` call, without the objects that they are bound to."""
    return tuple([(type(getattr(func, '__self__', None)), getattr(func, '__func__', func)) for func in funcs])
