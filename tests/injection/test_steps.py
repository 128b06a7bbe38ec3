"""Steps as one function do what API Star does with a list of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apistar_ws.injection.steps import FAILED, Step, compiled_steps, note_failure


class Calls:
    """Functions that note what they were given."""

    def __init__(self):
        self.given = []

    def function(self, number, fails_at):
        def call(**arguments):
            self.given.append((number, arguments))
            if number == fails_at:
                raise LookupError(number)
            return '%d of %s' % (number, sorted(arguments.values()))

        async def call_async(**arguments):
            return call(**arguments)

        return call_async if number % 3 == 0 else call


async def as_a_list(steps, funcs, state):
    """Run steps as API Star does, and note what has failed."""
    called, result = iter(funcs), None
    for step in steps:
        func = next(called) if step.set_return else step.func
        try:
            result = func(**{name: state[key] for name, key in step.kwargs}, **step.consts)
            result = await result if step.is_async else result
        except Exception as exc:
            note_failure(state, exc, func)
            raise
        if step.set_return:
            state['return_value'] = result
        state[step.output] = result
    return result


@st.composite
def plans(draw):
    """Steps by their numbers: what they take, whether they are asked for, where they put it; and which one fails."""
    known, made = ['scope', 'return_value'], []
    for number in range(draw(st.integers(0, 6))):
        takes = draw(st.lists(st.sampled_from(known), max_size=3, unique=True))
        is_asked_for = draw(st.booleans())
        output = draw(st.sampled_from(['return_value', 'key:%d' % number, 'quote\'"\\']))
        known.append(output)
        made.append((takes, is_asked_for, output, draw(st.booleans())))
    return made, draw(st.none() | st.integers(0, 6))


async def outcome(run, plan):
    calls, (made, fails_at) = Calls(), plan
    steps, funcs = [], []
    for number, (takes, is_asked_for, output, has_const) in enumerate(made):
        func = calls.function(number, fails_at)
        kwargs = tuple(('a%d' % index, key) for index, key in enumerate(takes))
        consts = {'const': 'constant'} if has_const else {}
        steps.append(Step(func, number % 3 == 0, kwargs, consts, output, is_asked_for))
        funcs += [func] if is_asked_for else []
    state = {'scope': 'the scope', 'return_value': 'nothing'}
    try:
        result = await run(steps, funcs, state)
    except LookupError as exc:
        result = str(exc)
    failed = state.pop(FAILED, (None, None))
    # By their numbers, since each run has functions of its own.
    failed_at = [number for number, step in enumerate(steps) if step.func is failed[1]]
    return calls.given, state, result, str(failed[0]), failed_at


@given(plans())
async def test_compiled_function_matches_the_list(plan):
    """A compiled function gives the same results as the list of steps."""
    expected = await outcome(as_a_list, plan)
    assert await outcome(lambda steps, funcs, state: compiled_steps(steps)(funcs, state), plan) == expected


class Waiting:
    """A hook that is an object: nobody sees before the call that it has to be awaited."""

    async def __call__(self):
        return 'awaited'


async def test_unexpected_awaitable_is_awaited():
    """A call that returns an awaitable unexpectedly is awaited."""
    hook, state = Waiting(), {}
    run = compiled_steps([Step(hook, False, (), {}, 'return_value', True)])
    assert await run([hook], state) == 'awaited'
    assert state == {'return_value': 'awaited'}


async def test_what_has_failed_is_noted_once():
    def fail():
        raise LookupError

    state = {}

    async def outer():
        await compiled_steps([Step(fail, False, (), {}, 'key', False)])((), state)

    with pytest.raises(LookupError) as info:
        await compiled_steps([Step(outer, True, (), {}, 'key', False)])((), state)
    assert state == {FAILED: (info.value, fail)}
