"""Random handlers against random clients, limits and cancellations, on virtual time: how every life has to end.

No handler outlives its client by more than a second unless it was told itself, no cancellation is lost, and nothing is
left behind: no task, no count, nothing that the watch would look at.
"""

import asyncio
import contextlib
import sys

from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws import ASyncApp, WebSocket, WebSocketDisconnect, WebSocketStateError, collect_routes, websocket_route
from tests.clock import run_virtually
from tests.conversations import CONNECT, SHUTDOWN, BlockedPeer, disconnect, scope, text
from tests.sizes import examples

#: Seconds within which a handler has to end, and some time for those that are told to clean up.
PROMISED = 1.0
CLEAN_UP = 0.3
#: Seconds that a client may be held back, which is the default of ``backlog_timeout``.
HELD_BACK = 20.0

PAUSES = st.sampled_from([0.0, 0.01, 0.2, 0.26, 0.6, 3.0, 30.0])
STEPS = st.one_of(
    st.tuples(st.sampled_from(['sleep', 'receive within', 'gather receive', 'leave a task receiving', 'wait']), PAUSES),
    st.tuples(st.sampled_from(['receive', 'send', 'send bytes', 'iterate', 'ten sends', 'block']), st.just(0.05)),
)
EVENTS = st.tuples(PAUSES, st.sampled_from(['message', 'message', 'many', 'stop reading', 'read on', 'others send']))
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        'idle_timeout': st.sampled_from([0.2, 2, 20]),
        'send_timeout': st.sampled_from([0.3, 5, None]),
        'backlog_timeout': st.sampled_from([1, 20]),
        'max_messages_per_second': st.sampled_from([3, 100]),
        'max_message_size': st.just(2000),
    },
)
ENDS = st.sampled_from(
    [
        'leaves',
        'leaves with 1012',
        'is lost',
        'server stops',
        'cancelled',
        'cancelled and leaves',
        'leaves and cancelled',
    ]
)


#: What the server sends then; a client may close with 1012 too.
FAREWELLS = {
    'leaves': disconnect(1001),
    'leaves with 1012': disconnect(1012),
    'is lost': disconnect(1006),
    'server stops': SHUTDOWN,
}


class Life:
    """One connection: what its handler does, what its client does, and how it ends."""

    def __init__(self, steps, events, limits, end):
        self.peer = BlockedPeer(CONNECT)
        self.peer.unblock.set()
        self.steps, self.events, self.end = steps, events, end
        self.ended_at = self.ws = self.cancelled = None
        self.tasks = []

        @websocket_route('/', **limits)
        async def handler(ws: WebSocket):
            self.ws = ws
            try:
                for step, seconds in self.steps:
                    await self.take(step, seconds)
                await asyncio.sleep(10_000)
            finally:
                self.ended_at = asyncio.get_running_loop().time()
                self.cancelled = asyncio.current_task().cancelling() if sys.version_info >= (3, 11) else 0
                for task in self.tasks:
                    task.cancel()

        self.app = ASyncApp(collect_routes(handler), docs_url=None)

    async def take(self, step, seconds):
        ws = self.ws
        if step == 'sleep':
            await asyncio.sleep(seconds)
        elif step == 'wait':
            await within(asyncio.Event().wait(), seconds)
        elif step == 'receive within':
            with contextlib.suppress(WebSocketStateError):
                await within(ws.receive(), seconds)
        elif step == 'gather receive':
            tasks = [asyncio.ensure_future(ws.receive()), asyncio.ensure_future(asyncio.sleep(seconds))]
            self.tasks += tasks
            with contextlib.suppress(WebSocketStateError):
                await asyncio.gather(*tasks)
        elif step == 'leave a task receiving':
            self.tasks.append(asyncio.ensure_future(quietly(ws.receive)))
        elif step == 'block':
            asyncio.get_running_loop().block(seconds)
        elif step == 'ten sends':
            for _ in range(10):
                await ws.send('x')
        elif step == 'receive':
            with contextlib.suppress(WebSocketStateError):
                await ws.receive()
        elif step == 'iterate':
            await self.iterate()
        else:
            await ws.send('x' if step == 'send' else b'x')

    async def iterate(self):
        with contextlib.suppress(WebSocketStateError):
            async for _ in self.ws:
                return
            raise WebSocketDisconnect

    async def live(self):
        """Let it happen, and require of the end what is promised."""
        loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(self.app(scope('/'), self.peer.receive, self.peer.send))
        others = []
        for pause, event in self.events:
            await asyncio.sleep(pause)
            self.happen(event, others)
        begun = loop.time()
        self.finish(serving)
        await asyncio.wait([serving], timeout=60)
        assert serving.done(), 'the connection never ends'
        self.require_end(serving, begun)
        await self.require_nothing_left(others)

    def happen(self, event, others):
        if event == 'message':
            self.peer.add(text('hello'))
        elif event == 'many':
            self.peer.add(*[text('x' * 1000)] * 80)
        elif event == 'stop reading':
            self.peer.unblock.clear()
        elif event == 'read on':
            self.peer.unblock.set()
        elif self.ws is not None:  # pragma: no branch
            others.append(asyncio.ensure_future(quietly(self.ws.send, 'news')))

    def finish(self, serving):
        self.ended_before = self.ended_at is not None or serving.done()
        for what in self.end.split(' and '):
            if what == 'cancelled':
                serving.cancel()
            else:
                self.peer.error = OSError('gone')
                self.peer.unblock.set()
                self.peer.add(FAREWELLS[what])

    def require_end(self, serving, begun):
        if not self.ended_before:
            # A client that is held back is not seen to leave before the handler receives, or its time is over. What it
            # sent before it closed is delivered to a handler that has been receiving.
            messages = [event for _, event in self.events if event in ('message', 'many')]
            waits = 'many' in messages or ('leaves' in self.end and len(messages) > 1)
            bound = PROMISED + (HELD_BACK if waits else CLEAN_UP)
            assert self.ended_at is None or self.ended_at - begun <= bound
            # Python 3.10 does not count cancellations, and may take this one for one of ours.
            if 'cancelled' in self.end and sys.version_info >= (3, 11):
                assert serving.cancelled()
        if not serving.cancelled() and sys.version_info >= (3, 11):
            assert serving.exception() is None
            assert serving.cancelling() == 0

    async def require_nothing_left(self, others):
        if others:
            done, pending = await asyncio.wait(others, timeout=PROMISED)
            assert not pending
        await asyncio.sleep(1)
        (endpoint,) = self.app.websocket_lifecycle.endpoints
        assert endpoint.connections == set()
        watch = self.app.websocket_lifecycle.watches.current()
        assert (watch._active, watch._idle, watch._due, watch._timer) == ({}, {}, {}, None)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert left == set()


async def within(coro, seconds):  # pragma: no cover
    """Await ``coro`` for so long; before 3.12 ``wait_for`` swallows a cancellation in the turn in which it ends."""
    if sys.version_info >= (3, 12):
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(coro, seconds)
        return
    task = asyncio.ensure_future(coro)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    if done:
        task.result()


async def quietly(call, *arguments):
    """Await a call; what the WebSocket raises is no matter, but a cancellation that was asked for is."""
    with contextlib.suppress(WebSocketDisconnect, WebSocketStateError):
        return await call(*arguments)


@examples(60, 300)
@given(st.lists(STEPS, max_size=6), st.lists(EVENTS, max_size=6), SETTINGS, ENDS)
@example([('leave a task receiving', 0.0)], [(0.6, 'message')], {}, 'leaves')
@example([], [(3.0, 'many'), (0.6, 'message')], {'backlog_timeout': 1}, 'leaves')
@example([('send', 0.05)], [(0.0, 'stop reading'), (3.0, 'message')], {'send_timeout': 0.3}, 'leaves')
@example([('block', 0.05), ('ten sends', 0.05)], [(0.6, 'message')], {}, 'leaves')
@example([('iterate', 0.05), ('iterate', 0.05)], [(0.6, 'message')], {}, 'leaves')
@example(
    [('sleep', 0.2), ('receive within', 0.2), ('wait', 0.2), ('send bytes', 0.05)],
    [(3.0, 'message')],
    {},
    'server stops',
)
@example([('gather receive', 0.2), ('receive', 0.05)], 3 * [(0.2, 'message')], {}, 'cancelled')
@example([('send', 0.05)], [(0.2, 'stop reading'), (0.2, 'read on'), (0.2, 'others send')], {}, 'cancelled and leaves')
@example([], [], {}, 'leaves and cancelled')
def test_every_life_keeps_the_promises(steps, events, limits, end):
    """Every connection ends as promised."""
    run_virtually(Life(steps, events, limits, end).live())
