"""What a user sees of generated functions, and of the package, in the traceback of a failure."""

import pathlib
import traceback

import pytest
from apistar import Component, Route

import apistar_ws
from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route
from apistar_ws.generated import define
from tests.conversations import CONNECT, Peer, run, scope, text

PACKAGE = str(pathlib.Path(apistar_ws.__file__).parent)


class Session:
    """Supplied by a component that fails."""


class SessionComponent(Component):
    def resolve(self) -> Session:
        raise ValueError('component')


class Hook:
    def on_request(self, session: Session):
        """Ask for what fails."""


@websocket_route('/handler')
async def handler(ws: WebSocket):
    raise ValueError('handler')


@websocket_route('/component')
async def component(ws: WebSocket, session: Session):
    """Not be reached."""


@websocket_listener('/listener')
async def listener(message: str):
    raise ValueError('listener')


def page():
    raise ValueError('page')


def shown_page(session: Session):
    """Not be reached."""


def frames(caplog):
    """Return where the logged traceback leads, without API Star's own frames."""
    (record,) = [record for record in caplog.records if record.exc_info]
    summary = traceback.extract_tb(record.exc_info[2])
    assert all(frame.line for frame in summary)
    return [frame.filename for frame in summary if 'site-packages' not in frame.filename]


def test_generated_lines_are_shown():
    names = {}
    define('a test', ['def fail():', '    raise KeyError'], names)
    with pytest.raises(KeyError) as info:
        names['fail']()
    last = traceback.extract_tb(info.value.__traceback__)[-1]
    assert (last.filename, last.line) == ('<apistar_ws: a test>', 'raise KeyError')


@pytest.mark.parametrize('url', ['/handler', '/component', '/listener'])
@pytest.mark.parametrize('hooks', [[], [Hook]])
async def test_websocket_traceback_is_short(url, hooks, caplog):
    """At most three frames of ours, then the user's own."""
    app = ASyncApp(
        collect_routes(handler, component, listener), components=[SessionComponent()], event_hooks=hooks, docs_url=None
    )
    await run(app, scope(url), Peer(CONNECT, text('x')))
    *ours, users = frames(caplog)
    assert users == __file__
    assert (len(ours) <= 3, all(name.startswith((PACKAGE, '<apistar_ws: arguments of ')) for name in ours)) == (
        True,
        True,
    )
    assert all(url in name for name in ours if name.startswith('<'))


@pytest.mark.parametrize('handler, url', [(page, '/page'), (shown_page, '/shown')])
async def test_http_traceback_is_short(handler, url, caplog):
    app = ASyncApp([Route(url, 'GET', handler)], components=[SessionComponent()])
    request = {**scope(url), 'type': 'http', 'method': 'GET'}
    await run(app, request, Peer({'type': 'http.request', 'body': b''}))
    *ours, users = frames(caplog)
    assert (users, ours[-1], len(ours) <= 3) == (__file__, '<apistar_ws: calls of GET %s>' % url, True)
