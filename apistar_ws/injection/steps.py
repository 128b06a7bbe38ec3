"""The steps of the injector, compiled to one function.

API Star interprets a list of steps for every connection: for each it looks up the arguments and stores the result in a
dictionary. The list is known when the application is built, so it can be generated as Python code.
"""

import inspect
import logging
import weakref
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Sequence, Tuple

from apistar_ws.generated import define
from apistar_ws.injection.signatures import describe_handler

logger = logging.getLogger('apistar_ws')

State = Dict[str, Any]
#: Runs steps, given the functions to call, bound to their current objects, and the state.
Run = Callable[[Sequence[Callable[..., Any]], State], Awaitable[Any]]
#: The name of each argument, and the key of its value in the state.
Keywords = Tuple[Tuple[str, str], ...]

#: The key in the state of the exception that was raised last, and the hook or component that raised it.
FAILED = 'apistar_ws.failed'

#: Hooks with a warning in the log that their return value was discarded.
_WARNED_HOOKS: 'weakref.WeakSet[Any]' = weakref.WeakSet()


class Step(NamedTuple):
    """One call of the injector, with the keys of its arguments and its result in the state."""

    func: Callable[..., Any]
    is_async: bool
    kwargs: Keywords
    consts: Dict[str, Any]
    output: str
    #: Whether it is one of the functions to call, and not a component.
    set_return: bool


def compiled_steps(steps: Sequence[Step], title: str = 'steps') -> Run:
    """Return a function that runs ``steps`` in order, and returns the value of the last one.

    Steps that do not call a component call the functions that are passed to it.

    :param steps: the steps.
    :param title: the purpose of the steps, which a traceback shows.
    """
    return _Writer().write(steps, title) if steps else _run_nothing


async def _run_nothing(funcs: Sequence[Callable[..., Any]], state: State) -> None:
    pass  # There are no steps.


class _Writer:
    """Generates the function for a list of steps."""

    def __init__(self) -> None:
        self._names: Dict[str, Any] = {
            'isawaitable': inspect.isawaitable,
            'note_failure': note_failure,
            'note_discarded': _note_discarded,
        }
        #: The variable that has the value of a key of the state.
        self._variables: Dict[str, str] = {}
        #: The expression of the function that each step calls.
        self._called: List[str] = []

    def write(self, steps: Sequence[Step], title: str) -> Run:
        """Return the function."""
        lines = [line for number, step in enumerate(steps) for line in self._step(number, step)]
        source = [
            'async def run(funcs, state):',
            '    at = 0',
            '    try:',
            *['        ' + line for line in lines],
            '    except BaseException as exc:',
            '        note_failure(state, exc, (%s)[at])' % ''.join(name + ', ' for name in self._called),
            '        raise',
            '    return result',
        ]
        define(title, source, self._names)
        run: Run = self._names['run']
        return run

    def _step(self, number: int, step: Step) -> List[str]:
        """Return the lines of one step."""
        asked_for = sum(name.startswith('funcs') for name in self._called)
        called = 'funcs[%d]' % asked_for if step.set_return else self._constant(step.func)
        self._called.append(called)
        arguments = ['%s=%s' % (name, self._value(key)) for name, key in step.kwargs]
        arguments += ['%s=%s' % (name, self._constant(value)) for name, value in step.consts.items()]
        lines = ['at = %d' % number, 'result = %s(%s)' % (called, ', '.join(arguments))]
        if step.is_async:
            lines.append('result = await result')
        if step.set_return:
            # A hook may be an object with an async __call__, which shows only after the call.
            lines.append('if result is not None and isawaitable(result): result = await result')
            if getattr(step.func, '__name__', '') == 'on_request':
                lines.append('if result is not None: note_discarded(%s, result)' % called)
            lines.append("state['return_value'] = result")
            self._variables.pop('return_value', None)
        variable = self._variables[step.output] = 'v%d' % number
        return [*lines, 'state[%r] = %s = result' % (step.output, variable)]

    def _value(self, key: str) -> str:
        return self._variables.get(key) or 'state[%r]' % key

    def _constant(self, value: Any) -> str:
        name = 'c%d' % len(self._names)
        self._names[name] = value
        return name


def _note_discarded(hook: Callable[..., Any], value: Any) -> None:
    """Log once for each hook that its return value was discarded: it may be meant to refuse the request."""
    function = getattr(hook, '__func__', hook)
    if function not in _WARNED_HOOKS:
        _WARNED_HOOKS.add(function)
        logger.warning(
            'The event hook %s returned %s, which was discarded, and the request goes on: raise an HTTPException, such '
            'as Forbidden(), to refuse it.' % (describe_handler(function), type(value).__name__)
        )


def note_failure(state: State, exc: BaseException, func: Any) -> None:
    """Note which function raised ``exc``, for the log."""
    if state.get(FAILED, (None,))[0] is not exc:
        state[FAILED] = (exc, func)
