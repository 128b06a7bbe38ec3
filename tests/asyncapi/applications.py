"""Applications to describe: those of the examples, and random ones."""

import importlib.util
import json
import pathlib
import sys
from typing import Any, Dict, Iterator, Tuple

from apistar import http
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route, websocket_stream
from tests.asyncapi.validators import TEXTS, VALIDATORS, message_types
from tests.servers import ROOT

EXAMPLES = ROOT / 'docs' / 'examples'


def examples() -> Iterator[Tuple[str, ASyncApp]]:
    """Yield the applications of the documentation, by name."""
    for path in sorted(EXAMPLES.glob('*.py')):
        if path.stem.startswith(('test_', 'starlette')):
            continue
        spec = importlib.util.spec_from_file_location('asyncapi_of_%s' % path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if isinstance(getattr(module, 'app', None), ASyncApp):
            yield path.stem, module.app


@st.composite
def messages(draw: Any) -> Any:
    """A declaration of a route: none, a type, several types, or a validator."""
    kind = draw(st.sampled_from(['none', 'type', 'types', 'validator']))
    if kind == 'none':
        return None
    if kind == 'type':
        return draw(message_types())
    if kind == 'types':
        return [draw(message_types(kind=name)) for name in draw(st.sampled_from([['a', 'b'], ['a', 'b', 'c']]))]
    return draw(VALIDATORS)


@st.composite
def applications(draw: Any) -> ASyncApp:
    """An application with routes of every kind."""

    async def handler(ws: WebSocket, room: str, agent: http.Header = None, page: int = 1, ratio: float = None):
        """It is not run."""

    async def plain(ws: WebSocket, number: int, flag: bool):
        """It is not run."""

    async def listener(message: str) -> str:
        return message  # pragma: no cover

    async def stream():
        yield ''  # pragma: no cover

    handler.__doc__ = draw(TEXTS)
    one = websocket_route(
        '/rooms/{room}', receives=draw(messages()), sends=draw(messages()),
        subprotocols=draw(st.sampled_from([[], ['a', 'b']])),
        connect=draw(st.booleans()), idle_timeout=draw(st.sampled_from([None, 60])),
    )(handler)  # fmt: skip
    two = websocket_route('/numbers/{number}', name=draw(st.sampled_from(['numbers', 'a:b', 'ü'])))(plain)
    three = websocket_listener('/listener', receives=draw(messages()), sends=draw(messages()))(listener)
    four = websocket_stream('/stream', sends=draw(messages()), documented=draw(st.booleans()))(stream)
    return ASyncApp(collect_routes(one, two, three, four), websocket_schema_limits=draw(st.booleans()))


def write(directory: pathlib.Path, count: int) -> None:  # pragma: no cover
    """Write the documents of all examples and of ``count`` applications at random."""
    found: Dict[str, Any] = {name: app.asyncapi for name, app in examples()}

    @settings(max_examples=count, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(applications())
    def generate(app: ASyncApp) -> None:
        found['random%d' % len(found)] = app.asyncapi

    generate()
    for name, document in found.items():
        (directory / (name + '.json')).write_text(json.dumps(document), encoding='utf-8')


if __name__ == '__main__':  # pragma: no cover
    write(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
