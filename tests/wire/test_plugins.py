"""Plug-ins of API Star's, as they are, over HTTP and WebSockets in one application: nothing stays open."""

import asyncio
import itertools
import logging
import time
import warnings

import jwt
import pytest
import requests
from apistar import Route, exceptions
from apistar_jwt.token import JWT, JWTUser
from apistar_prometheus import PrometheusComponent, PrometheusHooks
from apistar_prometheus.components import REQUESTS_INPROGRESS
from sqlalchemy import text as sql
from sqlalchemy.orm import Session
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from tests.conversations import CONNECT, Peer, disconnect, scope, text
from tests.servers import IMPLEMENTATIONS, serving
from tests.sizes import size, soak

with warnings.catch_warnings():
    # Its own: it imports from where SQLAlchemy had it before version 2.
    warnings.simplefilter('ignore')
    from apistar_sqlalchemy import database
    from apistar_sqlalchemy.components import SQLAlchemySessionComponent
    from apistar_sqlalchemy.event_hooks import SQLAlchemyTransactionHook

SECRET = 'a secret of at least thirty-two bytes'
CONNECTIONS = size(600, 10_000)
#: How a connection is made to end, and whether what it has written is kept.
ENDS = {'end': True, 'leave': True, 'forbid': False, 'fail': False, 'invalid': False, 'drop': False}


@websocket_route('/orders')
async def orders(session: Session, user: JWTUser, ws: WebSocket):
    ws.expires_at = user.token['exp']
    session.execute(sql('insert into orders (item) values (:item)'), {'item': user.username})
    # What else is on this thread shares the session: nothing may be awaited before the end is known.
    async for message in ws:
        if message == 'forbid':
            raise exceptions.Forbidden()
        if message == 'fail':
            raise RuntimeError('disk full')
        if message == 'invalid':
            await ws.receive_json()
        if message == 'drop':
            await ws.receive()
        return


def write(session: Session, what: str):
    session.execute(sql('insert into orders (item) values (:item)'), {'item': what})
    if what == 'forbid':
        raise exceptions.Forbidden()
    if what == 'fail':
        raise RuntimeError('disk full')
    return what


class Shop:
    """An application with a database of its own."""

    def __init__(self, path):
        sessions = SQLAlchemySessionComponent('sqlite:///%s' % path)
        self.engine = sessions.engine
        with self.engine.begin() as connection:
            connection.execute(sql('create table orders (item text)'))
        components = [sessions, PrometheusComponent(), JWT({'JWT_SECRET': SECRET})]
        routes = [*collect_routes(orders), Route('/write/{what}', 'GET', write)]
        self.app = ASyncApp(routes, components=components, event_hooks=[PrometheusHooks, SQLAlchemyTransactionHook()])

    def count(self):
        """Return how many orders there are."""
        with self.engine.connect() as connection:
            return connection.execute(sql('select count(*) from orders')).scalar()

    def require_rest(self):
        """Make sure that nothing is open."""
        assert self.engine.pool.checkedout() == 0
        values = [sample.value for metric in REQUESTS_INPROGRESS.collect() for sample in metric.samples]
        assert values and set(values) == {0}


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path / 'orders.db')
    yield made
    database.Session.remove()
    made.engine.dispose()


class TalksAfterwards(Peer):
    """A client that says what it has to say once it is accepted."""

    def __init__(self, script):
        super().__init__(CONNECT)
        self.script = script

    async def send(self, message):
        if message['type'] == 'websocket.accept':
            self.add(*self.script)
        await super().send(message)


def token(seconds=3600):
    return jwt.encode({'id': 1, 'username': 'tea', 'exp': int(time.time() + seconds)}, SECRET)


def headers(seconds=3600):
    return [('authorization', 'Bearer ' + token(seconds))]


@soak
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
async def test_many_connections_leave_nothing_open(shop, caplog):
    """After many connections nothing is checked out and the gauge is zero."""
    for name in ('apistar_ws', 'apistar_jwt'):
        caplog.set_level(logging.CRITICAL, name)
    kept = 0
    authorized = headers()
    scripts = {
        'leave': [disconnect()],
        'invalid': [text('invalid'), text('{')],
        'drop': [text('drop'), disconnect(1006)],
    }
    kinds = itertools.islice(itertools.cycle([*ENDS, 'denied', 'http', 'http forbid', 'http fail']), CONNECTIONS)
    for kind in kinds:
        peer = TalksAfterwards(scripts.get(kind, [text(kind)]))
        made = scope('/orders', authorized if kind != 'denied' else [('authorization', 'Bearer no')])
        if kind.startswith('http'):
            path = '/write/' + (kind[5:] or 'tea')
            made = {**scope(path), 'type': 'http', 'method': 'GET'}
        await shop.app(made, peer.receive, peer.send)
        kept += ENDS.get(kind, kind == 'http')
    shop.require_rest()
    assert shop.count() == kept


@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
async def test_on_a_real_server_too(shop, implementation):
    async def visit(kind):
        async with websockets_connect(server.ws_url + '/orders', additional_headers=headers()) as ws:
            if kind == 'leave':
                return
            await ws.send(kind)
            if kind == 'invalid':
                await ws.send('{')
            if kind == 'drop':
                ws.transport.abort()
                return
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 10)

    async def denied():
        with pytest.raises(InvalidStatus):
            await websockets_connect(server.ws_url + '/orders', additional_headers={'Authorization': 'Bearer no'})

    with serving(shop.app, implementation) as server:
        for _ in range(20):
            # One after the other: the plug-in's session is the thread's, and two would lock each other out.
            for kind in ENDS:
                await visit(kind)
            await denied()
            for what in ('tea', 'forbid', 'fail'):
                await asyncio.to_thread(requests.get, server.http_url + '/write/' + what, timeout=10)
    shop.require_rest()


async def test_token_expiry_closes_the_connection(shop):
    """The connection expires with its token."""
    with serving(shop.app) as server:
        async with websockets_connect(server.ws_url + '/orders', additional_headers=headers(2)) as ws:
            await asyncio.wait_for(ws.wait_closed(), 10)
    assert (ws.close_code, ws.close_reason) == (4401, 'Expired')
    shop.require_rest()
