"""Malformed handshakes and frames against a running server: it goes on, and no failure is of our making."""

import asyncio
import logging
import os
import random
import socket
import struct

import pytest
from websockets.asyncio.client import connect

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from tests.servers import IMPLEMENTATIONS, serving

ROUNDS = 150
SEED = int(os.environ.get('FUZZ_SEED', '2018'))


@websocket_route('/echo/{n}')
async def echo(n: int, ws: WebSocket, limit: int = 5):
    async for message in ws:
        await ws.send(message)


@websocket_route('/json')
async def some_json(ws: WebSocket):
    while True:
        await ws.send_json(await ws.receive_json())


APP = ASyncApp(collect_routes(echo, some_json), docs_url=None)
HANDSHAKE = [
    b'GET /echo/1 HTTP/1.1',
    b'Host: localhost',
    b'Connection: Upgrade',
    b'Upgrade: websocket',
    b'Sec-WebSocket-Version: 13',
    b'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
TARGETS = [
    b'/echo/1',
    b'/json',
    b'/echo/x',
    b'/echo/1?limit=%ff',
    b'/echo/1?limit=a',
    b'//',
    b'/%00',
    b'/echo/%31',
    b'*',
]
HEADERS = [
    b'Origin: null',
    b'Origin: x',
    b'Cookie: a=\xff',
    b'Sec-WebSocket-Protocol: ,,',
    b'X: ' + b'y' * 9000,
    b'X',
    b'',
]


def malformed_handshake(chance):
    """Return a handshake with something wrong: a line lost, doubled, changed or cut."""
    lines = list(HANDSHAKE)
    lines[0] = b'GET %s HTTP/1.1' % chance.choice(TARGETS)
    for _ in range(chance.randint(0, 3)):
        i = chance.randrange(len(lines))
        lines[i : i + 1] = chance.choice([[], [lines[i]] * 2, [lines[i][:-3]], [lines[i], chance.choice(HEADERS)]])
    data = b'\r\n'.join(lines) + b'\r\n\r\n'
    return data[: chance.choice([len(data)] * 5 + [20])]


def malformed_frame(chance):
    """Return a frame with random opcode, length, mask and payload, or one that is nearly right."""
    payload = chance.choice([b'', b'{', b'\xff\xfe', b'[' * 5000, b'{"a": 1e999}', b'"\\ud800"', chance.randbytes(200)])
    first = chance.choice([0x81, 0x82, 0x01, 0x80, 0x00, 0x88, 0x89, 0x8A, 0xC1, 0x8F, chance.randrange(256)])
    length = chance.choice([len(payload)] * 5 + [chance.randrange(2**16)])
    masked = chance.choice([0x80] * 5 + [0])
    if length < 126:
        head = struct.pack('!BB', first, masked | length)
    else:
        head = struct.pack('!BBH', first, masked | 126, length % 2**16)
    return head + (bytes(4) if masked else b'') + payload


def attack(port, chance):
    """Talk to the server as no client should, and leave in one way or another."""
    with socket.create_connection(('127.0.0.1', port), 10) as sock:
        sock.settimeout(0.05)
        try:
            if chance.random() < 0.4:
                sock.sendall(malformed_handshake(chance))
            else:
                sock.sendall(b'\r\n'.join(HANDSHAKE).replace(b'/echo/1', chance.choice(TARGETS[:2])) + b'\r\n\r\n')
                sock.recv(4096)
                sock.sendall(b''.join(malformed_frame(chance) for _ in range(chance.randint(1, 4))))
            sock.recv(4096)
        except OSError:
            """The server has had enough, or says nothing."""
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
async def test_server_survives_malformed_input(implementation, caplog):
    """The server survives malformed input, and no failure is ours."""
    chance = random.Random('%s %d' % (implementation, SEED))
    with serving(APP, implementation) as server:
        for _ in range(ROUNDS):
            await asyncio.to_thread(attack, server.port, chance)
        async with connect(server.ws_url + '/echo/1', proxy=None) as ws:
            await ws.send('still there?')
            assert await asyncio.wait_for(ws.recv(), 10) == 'still there?'
    ours = [record for record in caplog.records if record.name == 'apistar_ws' and record.levelno >= logging.ERROR]
    assert ours == []
    assert 'Exception in ASGI application' not in caplog.text
