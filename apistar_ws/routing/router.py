"""From a path to the route that serves it: API Star's routes, matched as API Star matches them."""

import copy
import math
import re
from functools import lru_cache
from typing import (
    Any,
    Callable,
    Dict,
    Generic,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
)
from urllib.parse import urlsplit

import werkzeug.routing
from apistar import Include, Route, exceptions
from apistar.server.router import Router as HTTPRouter

from apistar_ws.exceptions import UpgradeRequired
from apistar_ws.injection.arguments import PARAMETER
from apistar_ws.injection.signatures import describe_handler, handler_signature

#: Paths whose match is remembered, the least recently used forgotten first.
CACHE_SIZE = 4096
#: Characters of a path that is remembered: a client chooses its paths, and could fill the memory with them.
LONGEST_REMEMBERED = 256
#: Steps that matching a path may take: beyond, it is found nowhere. A path within it takes some milliseconds at most.
MOST_STEPS = 1_000_000
#: One segment of a URL that is nothing but a parameter.
SEGMENT = re.compile('{[^}+]+}')

Target = TypeVar('Target')
MatchedParams = Dict[str, Any]


class NamedRoute(NamedTuple):
    """A route with its whole URL and its whole name, those of each ``Include`` around it in front."""

    url: str
    name: str
    route: Route


def split_routes(
    routes: Sequence[Any], is_websocket: Callable[[Route], bool], url: str = '', name: str = ''
) -> Tuple[List[Any], List[NamedRoute]]:
    """Return the routes for HTTP, nested as they were, and those for WebSockets, in a list.

    :param routes: routes, and ``Include`` around them; they are left as they are.
    :param is_websocket: tells which routes are for WebSockets.
    :raises ConfigurationError: for what API Star would leave out without a word.
    """
    http: List[Any] = []
    websockets: List[NamedRoute] = []
    for item in routes:
        if isinstance(item, Include):
            inner_http, inner = split_routes(item.routes, is_websocket, url + item.url, name + item.name + ':')
            http.append(include_of(item, inner_http) if inner else item)
            websockets += inner
        elif isinstance(item, Route) and is_websocket(item):
            websockets.append(NamedRoute(url + item.url, name + item.name, item))
        else:
            refuse_no_route(item)
            http.append(item)
    return http, websockets


def refuse_no_route(item: Any) -> None:
    """Refuse a handler or a list among the routes, which API Star would leave out: its path would not be found.

    :raises ConfigurationError: saying what to do.
    """
    if isinstance(item, Route) or not (callable(item) or isinstance(item, (list, tuple))):
        return
    if callable(item):
        advice = 'collect_routes() makes routes of decorated handlers, Route(url, method, handler) of the others.'
        raise exceptions.ConfigurationError('routes holds the handler %s: %s' % (describe_handler(item), advice))
    raise exceptions.ConfigurationError(
        'routes holds a list: concatenate it, as in [Route(...)] + collect_routes(...), or put a star before it.'
    )


def include_of(include: Include, routes: List[Any]) -> Include:
    """Return ``include`` with only ``routes`` in it and in its part of the schema."""
    reduced = copy.copy(include)
    reduced.routes = routes
    reduced.section = include.generate_section(routes, include.name)
    return reduced


class Segments(Generic[Target]):
    """A node of the tree of URLs that consist of fixed segments and one-segment parameters."""

    def __init__(self) -> None:
        self.fixed: Dict[str, 'Segments[Target]'] = {}
        self.parameter: Optional[Tuple[str, type, 'Segments[Target]']] = None
        self.target: Optional[Target] = None
        #: Whether other kinds of URLs pass here, so that only the whole map of rules can tell.
        self.ambiguous = False

    def add(self, parts: Sequence[str], converters: Dict[str, type], target: Target) -> None:
        """Add a URL, split at its slashes."""
        if not parts:
            self.ambiguous = self.ambiguous or self.target is not None
            self.target = target
        elif not set('{<') & set(parts[0]):
            self.fixed.setdefault(parts[0], Segments()).add(parts[1:], converters, target)
        elif SEGMENT.fullmatch(parts[0]) and converters.get(parts[0][1:-1], str) in (str, int):
            self._add_parameter(parts, converters, target)
        else:
            self.ambiguous = True

    def _add_parameter(self, parts: Sequence[str], converters: Dict[str, type], target: Target) -> None:
        name = parts[0][1:-1]
        kind = converters.get(name, str)
        if self.parameter is None:
            self.parameter = (name, kind, Segments())
        if self.parameter[:2] != (name, kind):
            self.ambiguous = True
        else:
            self.parameter[2].add(parts[1:], converters, target)

    def match(self, parts: Sequence[str]) -> Optional[Tuple[Target, MatchedParams]]:
        """Return the target of a path and its parameters, or None if only the whole map can tell."""
        node = self
        params: MatchedParams = {}
        for part in parts:
            if node.ambiguous:
                return None
            following = node.fixed.get(part)
            if following is None:
                if node.parameter is None or not part:
                    return None
                name, kind, following = node.parameter
                if kind is int:
                    if not part.isdecimal() or len(part) > 18:
                        return None
                    params[name] = int(part)
                else:
                    params[name] = part
            node = following
        if node.ambiguous or node.target is None:
            return None
        return node.target, params


class Ambiguity(NamedTuple):
    """Where a URL has several parameters between two slashes, so that a path can be taken apart in many ways."""

    parameters: int
    #: What stands between them; an empty text where one follows another.
    separators: Tuple[str, ...]
    #: Whether one of them may hold slashes.
    spans_slashes: bool

    def steps(self, path: str) -> int:
        """Return an upper bound of the steps that a regular expression takes for ``path``."""
        return max(self._steps_of(part) for part in ([path] if self.spans_slashes else path.split('/')))

    def _steps_of(self, part: str) -> int:
        # Occurrences may overlap, so that of the rarest of its characters is counted.
        places = sum(min(map(part.count, separator)) if separator else len(part) for separator in self.separators)
        return len(part) * math.comb(places, self.parameters - 1)


def ambiguities(url: str) -> Iterator[Ambiguity]:
    """Yield where a path can be taken apart in many ways by ``url``."""
    parts = [url] if '{+' in url else url.split('/')
    for part in parts:
        names = PARAMETER.findall(part)
        if len(names) > 1:
            between = tuple(dict.fromkeys(PARAMETER.sub('\0', part).split('\0')[1:-1]))
            yield Ambiguity(len(names), between, len(parts) == 1)


class Budget:
    """Refuses paths that would take too many steps to match, as a hostile client makes them.

    :param urls: those of the routes.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self._ambiguities = [found for url in urls for found in ambiguities(url)]

    def refuse_costly(self, path: str) -> None:
        """Refuse ``path`` if matching it takes too long.

        :raises NotFound: API Star's.
        """
        if any(ambiguity.steps(path) > MOST_STEPS for ambiguity in self._ambiguities):
            raise exceptions.NotFound()


class WebSocketRouter(Generic[Target]):
    """Finds what serves a path, with API Star's conversions, redirects and errors.

    :param targets: URL, name, handler and target of each route, in their order.
    """

    def __init__(self, targets: Sequence[Tuple[str, str, Any, Target]]) -> None:
        rules: List[TargetRule] = []
        self._segments: Segments[Target] = Segments()
        # Of empty segments, which API Star redirects, only the whole map can tell.
        self._segments.ambiguous = any('//' in url for url, _, _, _ in targets)
        #: What the routes lead to, in their order.
        self.targets = [target for _, _, _, target in targets]
        self.names = {name for _, name, _, _ in targets}
        for url, name, handler, target in targets:
            converters = path_converters(handler)
            self._segments.add(url.split('/'), converters, target)
            rule = TargetRule(rule_url(url, converters), endpoint=name)
            rule.target = target
            rules.append(rule)
        self._adapter = werkzeug.routing.Map(rules).bind('')
        self._budget = Budget(url for url, _, _, _ in targets)
        self.remembered = lru_cache(maxsize=CACHE_SIZE)(self._lookup)

    def lookup(self, path: str) -> Tuple[Target, MatchedParams]:
        """Return the target of a path and its parameters.

        :raises NotFound: API Star's, if there is none.
        :raises Found: API Star's, where to go instead.
        """
        return self.remembered(path) if len(path) <= LONGEST_REMEMBERED else self._lookup(path)

    def _lookup(self, path: str) -> Tuple[Target, MatchedParams]:
        return self._segments.match(path.split('/')) or self._match(path)

    def _match(self, path: str) -> Tuple[Target, MatchedParams]:
        refuse_relative(path)
        self._budget.refuse_costly(path)
        try:
            rule, params = self._adapter.match(path, 'GET', return_rule=True)
        except werkzeug.routing.RequestRedirect as exc:
            raise Found(urlsplit(exc.new_url).path) from None
        except (werkzeug.exceptions.NotFound, ValueError):
            raise exceptions.NotFound() from None
        target: Target = rule.target  # type: ignore[attr-defined]
        return target, dict(params)

    def serves(self, path: str) -> bool:
        """Return whether a WebSocket may be opened on ``path``."""
        try:
            self.lookup(path)
        except exceptions.HTTPException:
            return False
        return True

    def reverse_url(self, name: str, **params: Any) -> str:
        """Return the path of the route of that name.

        :raises NoReverseMatch: API Star's, if no such route takes these parameters.
        """
        try:
            return str(self._adapter.build(name, params))
        except werkzeug.routing.BuildError as exc:
            raise exceptions.NoReverseMatch(str(exc)) from None


class Found(exceptions.Found):  # type: ignore[misc]
    """A redirect to a route that nearly matches, without the root path, of which a router knows nothing."""


def refuse_relative(path: str) -> None:
    """Refuse a path with an empty leading segment, or with no slash in front.

    werkzeug's map strips leading slashes, while ``http.Path`` keeps them: a guard that asks what a path starts with
    would be walked past.

    :raises NotFound: API Star's.
    """
    if not path.startswith('/') or path.startswith('//'):
        raise exceptions.NotFound()


class TargetRule(werkzeug.routing.Rule):
    """A rule of werkzeug's that knows what it leads to; several may have one name."""

    target: Any = None


def path_converters(handler: Any) -> Dict[str, type]:
    """Return the annotations of a handler's arguments, which say how the path parameters are converted."""
    return {parameter.name: parameter.annotation for parameter in handler_signature(handler).parameters.values()}


def url_pattern(url: str, handler: Any) -> str:
    """Return what ``url`` matches, whatever its parameters are called."""
    return re.sub(':[^>]*>', '>', rule_url(url, path_converters(handler)))


def rule_url(url: str, converters: Dict[str, type]) -> str:
    """Return ``url`` as API Star's router would write it for werkzeug."""

    def placeholder(match: 're.Match[str]') -> str:
        parameter = match[1]
        if parameter.startswith('+'):
            return '<path:%s>' % parameter.lstrip('+')
        kind = {int: 'int', float: 'float'}.get(converters.get(parameter, str), 'string')
        return '<%s:%s>' % (kind, parameter)

    return PARAMETER.sub(placeholder, url)


class Router(HTTPRouter):  # type: ignore[misc]
    """API Star's router for HTTP, which knows where only a WebSocket is served.

    :param routes: the routes for HTTP.
    """

    def __init__(self, routes: Sequence[Any]) -> None:
        super().__init__(routes)
        self._budget = Budget(url for url, _, _ in self.walk_routes(routes))
        #: Finds the routes for WebSockets; the application sets it.
        self.websockets: WebSocketRouter[Any] = WebSocketRouter([])

    def lookup(self, path: str, method: str) -> Any:
        """Return the route of a request and its path parameters.

        :raises UpgradeRequired: where only a WebSocket is served.
        """
        refuse_relative(path)
        self._budget.refuse_costly(path)
        try:
            return super().lookup(path, method)
        except exceptions.Found as exc:
            raise Found(exc.location) from None
        except exceptions.NotFound:
            if self.websockets.serves(path):
                raise UpgradeRequired() from None
            raise

    def reverse_url(self, name: str, **params: Any) -> str:
        """Return the path of the route of that name, for HTTP or for WebSockets."""
        if name in self.websockets.names:
            return self.websockets.reverse_url(name, **params)
        return str(super().reverse_url(name, **params))
