"""Groups over several real workers: one that stops for a while, is killed, or is told to end under load."""

import asyncio
import contextlib
import json
import os
import signal
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.groups.members import Inbox, new_prefix, process
from tests.groups.redis_server import until
from tests.needs import needs_redis
from tests.servers import free_port
from tests.servers import process as server_process
from tests.sizes import size, soak

CROWD = size(300, 1000)

#: Seconds within which a server ends, and some for the machine.
BOUND = 2.0
NOISE = 3.0


@contextlib.contextmanager
def worker(**env):
    """Run one worker in a process of its own."""
    port = free_port()
    command = ['-m', 'uvicorn', 'tests.apps.rooms:app', '--log-level', 'error', '--port', str(port)]
    with server_process(command, port, env) as running:
        yield running


async def join(port, query='', room='a'):
    url = 'ws://127.0.0.1:%d/rooms/%s?%s' % (port, room, query)
    return await connect(url, proxy=None, compression=None, open_timeout=60, max_queue=None)


async def receive(client):
    return json.loads(await asyncio.wait_for(client.recv(), 30))


async def close_code_of(client):
    with contextlib.suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), 30)
    return client.close_code


async def joined(port, count, gate_size=50):
    """Return so many clients that are members."""
    gate = asyncio.Semaphore(gate_size)

    async def one():
        async with gate:
            client = await join(port)
            await receive(client)
            return client

    return await asyncio.gather(*[one() for _ in range(count)])


@pytest.mark.parametrize('kind', ['memory', pytest.param('redis', marks=needs_redis)])
@soak
async def test_all_members_end_with_their_server_within_two_seconds(kind, request):
    env = {'PREFIX': new_prefix()}
    if kind == 'redis':
        env['REDIS'] = request.getfixturevalue('shared_redis').url
    with worker(**env) as running:
        clients = await joined(running.port, CROWD)
        await clients[0].send('hello')
        assert (await receive(clients[-1]))['text'] == 'hello'
        codes = asyncio.gather(*[close_code_of(client) for client in clients])
        began = time.monotonic()
        printed = await asyncio.to_thread(running.stop)
        assert time.monotonic() - began < BOUND + NOISE
        assert set(await codes) <= {1001, 1012}
    assert printed == ''
    if kind == 'redis':
        async with process(env['REDIS'], prefix=env['PREFIX'], history=1000) as groups:
            assert await groups.members('room:a') == []


@needs_redis
@soak
async def test_one_of_four_workers_killed_with_its_clients_is_gone_from_the_list(shared_redis):
    env = {'REDIS': shared_redis.url, 'PREFIX': new_prefix(), 'LEASE': '2'}
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(worker(**env)) for _ in range(4)]
        clients = await joined(workers[0].port, CROWD)
        others = [await join(running.port, 'name=other') for running in workers[1:]]
        async with process(env['REDIS'], prefix=env['PREFIX'], history=1000, lease=2) as groups:
            changes = Inbox()
            async with groups.join('room:a', Inbox(), info='watch', on_change=changes):
                await changes.count(1)
                assert await groups.count('room:a') == CROWD + 4
                workers[0].popen.kill()
                killed = time.monotonic()
                await until(lambda: len(changes.messages) > 1, 'the members to be gone', 20.0)
                assert time.monotonic() - killed < 20
                await until(lambda: sum(len(change.left) for change in changes.messages) == CROWD, 'all of them', 10.0)
                members = sorted(member.info for member in await groups.members('room:a'))
                assert members == ['other', 'other', 'other', 'watch']
        for client in clients + others:
            client.transport.abort()
        workers[0].popen.wait(10)


@needs_redis
async def test_a_worker_that_stops_for_a_while_is_gone_and_back_once_without_ghosts(shared_redis):
    env = {'REDIS': shared_redis.url, 'PREFIX': new_prefix(), 'LEASE': '2'}
    with worker(**env) as running:
        client = await join(running.port, 'name=ann')
        position = (await receive(client))['at']
        async with process(env['REDIS'], prefix=env['PREFIX'], history=1000, lease=2) as groups:
            changes = Inbox()
            async with groups.join('room:a', Inbox(), info='watch', on_change=changes):
                await changes.count(1)
                os.kill(running.popen.pid, signal.SIGSTOP)
                try:
                    await changes.count(2)
                    assert [member.info for member in changes.messages[1].left] == ['ann']
                    for number in range(20):
                        await groups.send_json('room:a', {'text': str(number)})
                finally:
                    os.kill(running.popen.pid, signal.SIGCONT)
                await changes.count(3)
                assert [member.info for member in changes.messages[2].joined] == ['ann']
                got = [await receive(client) for _ in range(20)]
                assert [message['text'] for message in got] == [str(number) for number in range(20)]
                assert [int(message['at'].partition('-')[2]) for message in got] == list(range(1, 21))
                assert got[0]['at'].partition('-')[0] == position.partition('-')[0]
                assert await groups.count('room:a') == 2
                await client.close()
                await changes.count(4)
                assert [member.info for member in changes.messages[3].left] == ['ann']
                assert [member.info for member in await groups.members('room:a')] == ['watch']


@needs_redis
async def test_a_client_comes_back_to_another_worker_with_nothing_missing_and_nothing_twice(shared_redis):
    env = {'REDIS': shared_redis.url, 'PREFIX': new_prefix()}
    with worker(**env) as one, worker(**env) as two:
        sender = await join(two.port)
        client = await join(one.port)
        await receive(client)
        for number in range(10):
            await sender.send(str(number))
        got = [await receive(client) for _ in range(5)]
        client.transport.abort()
        for number in range(10, 20):
            await sender.send(str(number))
        again = await join(two.port, 'since=' + got[-1]['at'])
        while len(got) < 20:
            got += [message for message in [await receive(again)] if 'text' in message]
        assert [message['text'] for message in got] == [str(number) for number in range(20)]
        for opened in (sender, again):
            await opened.close()


@needs_redis
async def test_what_a_killed_sender_has_sent_is_whole_up_to_its_last_moment(shared_redis):
    env = {'REDIS': shared_redis.url, 'PREFIX': new_prefix()}
    inbox = Inbox()
    async with process(env['REDIS'], prefix=env['PREFIX'], history=1000) as groups:
        async with groups.join('room:a', inbox):
            with worker(**env) as running:
                sender = await join(running.port)
                for number in range(500):
                    await sender.send(str(number))
                await inbox.count(10)
                running.popen.kill()
                running.popen.wait(10)
                sender.transport.abort()
            await groups.send('room:a', 'end')
            await until(lambda: inbox.messages[-1] == 'end', 'the last message')
            got = [int(json.loads(text)['text']) for text in inbox.messages[:-1]]
            assert got == list(range(len(got)))
