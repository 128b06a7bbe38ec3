import asyncio
import sys

import pytest
from apistar import exceptions

from apistar_ws import InvalidMessage, UnsupportedMessage, WebSocketDisconnect
from apistar_ws.outcomes import deciding_exception, outcome_of


class Group(Exception):
    """Looks like an ExceptionGroup, which Python 3.10 does not have."""

    def __init__(self, *inner):
        super().__init__()
        self.exceptions = inner


class Odd(exceptions.HTTPException):
    default_status_code = 1234
    default_detail = 'odd'


@pytest.mark.parametrize(
    'exc, close',
    [
        (exceptions.Forbidden(), (4403, 'Forbidden')),
        (exceptions.BadRequest({'name': 'Must be a string.'}), (4400, '{"name":"Must be a string."}')),
        (exceptions.BadRequest('x' * 200), (4400, 'x' * 123)),
        (Odd(), (1011, 'Internal error')),
        (InvalidMessage('Must be a number.'), (1007, 'Must be a number.')),
        (InvalidMessage({'a': 'secret'}, reason='Invalid message: a'), (1007, 'Invalid message: a')),
        (UnsupportedMessage('Expected text, got bytes'), (1003, 'Expected text, got bytes')),
        (RuntimeError('password=hunter2'), (1011, 'Internal error')),
        (WebSocketDisconnect(1001), (1011, 'Internal error')),
        (Group(exceptions.NotFound(), WebSocketDisconnect(1001)), (4404, 'Not found')),
    ],
)
def test_exception_decides_code_and_reason(exc, close):
    """Each exception has one close code and reason."""
    assert outcome_of(exc) == close


def test_single_failure_of_group_decides():
    """The only failure in an exception group decides."""
    failure, left = ValueError(), WebSocketDisconnect(1001)
    both = Group(failure, KeyError())
    assert deciding_exception(Group(Group(failure), left)) is failure
    assert deciding_exception(Group(left, WebSocketDisconnect(1000))) is left
    assert deciding_exception(both) is both


def test_returned_handler_closes_normally():
    assert outcome_of(None) == (1000, '')


def test_deep_and_circular_groups_have_leaves():
    deep = ValueError()
    for _ in range(5000):
        deep = Group(deep)
    assert isinstance(deciding_exception(deep), ValueError)
    circle = Group(KeyError())
    circle.exceptions = (circle, *circle.exceptions)
    assert isinstance(deciding_exception(circle), KeyError)
    assert outcome_of(circle) == (1011, 'Internal error')


async def test_server_cancellation_is_a_restart():
    """A cancellation by the server is a restart of the server."""

    async def cancelled():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as exc:
            return outcome_of(exc)

    task = asyncio.ensure_future(cancelled())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == (1012, '')


async def test_foreign_cancellation_is_a_failure():
    """The cancellation of another task is a failure of the handler."""
    # Python 3.10 does not count cancellations, and this one is taken for the server's.
    failure = (1011, 'Internal error') if sys.version_info >= (3, 11) else (1012, '')
    assert outcome_of(asyncio.CancelledError()) == failure
