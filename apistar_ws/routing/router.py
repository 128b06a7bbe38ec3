"""The routers: finding the route of a path, with the same matches as API Star."""

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

#: The number of paths whose match is cached; the least recently used are dropped first.
CACHE_SIZE = 4096
#: The maximum characters of a cached path, since clients choose the paths and could fill the memory.
_MAX_CACHED_PATH = 256
#: The maximum steps to match a path, some milliseconds; a path that takes more is not found.
MAX_STEPS = 1_000_000
#: A segment of a URL that consists of one parameter.
_SEGMENT = re.compile('{[^}+]+}')

Target = TypeVar('Target')
_MatchedParams = Dict[str, Any]


class NamedRoute(NamedTuple):
    """A route with its full URL and name, prefixed with those of each ``Include`` around it."""

    url: str
    name: str
    route: Route


def split_routes(
    routes: Sequence[Any], is_websocket: Callable[[Route], bool], url: str = '', name: str = ''
) -> Tuple[List[Any], List[NamedRoute]]:
    """Return the routes for HTTP, nested as before, and the routes for WebSockets, as a flat list.

    :param routes: routes, and ``Include`` around them; they are not changed.
    :param is_websocket: returns whether a route is for WebSockets.
    :param url: the prefix of the URLs.
    :param name: the prefix of the names.
    :raises ConfigurationError: for an item that API Star would omit silently.
    """
    http: List[Any] = []
    websockets: List[NamedRoute] = []
    for item in routes:
        if isinstance(item, Include):
            inner_http, inner = split_routes(item.routes, is_websocket, url + item.url, name + item.name + ':')
            http.append(_reduced_include(item, inner_http) if inner else item)
            websockets += inner
        elif isinstance(item, Route) and is_websocket(item):
            websockets.append(NamedRoute(url + item.url, name + item.name, item))
        else:
            _refuse_misplaced(item)
            http.append(item)
    return http, websockets


def _refuse_misplaced(item: Any) -> None:
    """Refuse a handler or a list among the routes, which API Star would omit: its path would not be found.

    :raises ConfigurationError: saying how to correct it.
    """
    if isinstance(item, Route) or not (callable(item) or isinstance(item, (list, tuple))):
        return
    if callable(item):
        advice = 'collect_routes() makes routes of decorated handlers, Route(url, method, handler) of the others.'
        raise exceptions.ConfigurationError('routes holds the handler %s: %s' % (describe_handler(item), advice))
    raise exceptions.ConfigurationError(
        'routes holds a list: concatenate it, as in [Route(...)] + collect_routes(...), or put a star before it.'
    )


def _reduced_include(include: Include, routes: List[Any]) -> Include:
    """Return a copy of ``include`` with only ``routes``, also in its part of the schema."""
    reduced = copy.copy(include)
    reduced.routes = routes
    reduced.section = include.generate_section(routes, include.name)
    return reduced


class _Segments(Generic[Target]):
    """A node in the tree of URLs that consist of fixed segments and parameters of one segment."""

    def __init__(self) -> None:
        self.fixed: Dict[str, '_Segments[Target]'] = {}
        self.parameter: Optional[Tuple[str, type, '_Segments[Target]']] = None
        self.target: Optional[Target] = None
        #: Whether other kinds of URLs also pass this node, so that the map of rules has to match.
        self.ambiguous = False

    def add(self, parts: Sequence[str], converters: Dict[str, type], target: Target) -> None:
        """Add the target of a URL, which is split at its slashes."""
        if not parts:
            self.ambiguous = self.ambiguous or self.target is not None
            self.target = target
        elif not set('{<') & set(parts[0]):
            self.fixed.setdefault(parts[0], _Segments()).add(parts[1:], converters, target)
        elif _SEGMENT.fullmatch(parts[0]) and converters.get(parts[0][1:-1], str) in (str, int):
            self._add_parameter(parts, converters, target)
        else:
            self.ambiguous = True

    def _add_parameter(self, parts: Sequence[str], converters: Dict[str, type], target: Target) -> None:
        name = parts[0][1:-1]
        kind = converters.get(name, str)
        if self.parameter is None:
            self.parameter = (name, kind, _Segments())
        if self.parameter[:2] != (name, kind):
            self.ambiguous = True
        else:
            self.parameter[2].add(parts[1:], converters, target)

    def match(self, parts: Sequence[str]) -> Optional[Tuple[Target, _MatchedParams]]:
        """Return the target of a path and its parameters, or None if the map of rules has to match it."""
        node = self
        params: _MatchedParams = {}
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


class _Ambiguity(NamedTuple):
    """A part of a URL with several parameters between two slashes, so that a path can match in many ways."""

    parameters: int
    #: The texts between them, empty if one follows another directly.
    separators: Tuple[str, ...]
    #: Whether one of them may contain slashes.
    spans_slashes: bool

    def steps(self, path: str) -> int:
        """Return an upper bound for the steps in which a regular expression matches ``path``."""
        return max(self._steps_of(part) for part in ([path] if self.spans_slashes else path.split('/')))

    def _steps_of(self, part: str) -> int:
        # Occurrences of a separator may overlap, so its rarest character is counted.
        splits = sum(min(map(part.count, separator)) if separator else len(part) for separator in self.separators)
        return len(part) * math.comb(splits, self.parameters - 1)


def ambiguities(url: str) -> Iterator[_Ambiguity]:
    """Yield the parts of ``url`` that a path can match in many ways."""
    parts = [url] if '{+' in url else url.split('/')
    for part in parts:
        names = PARAMETER.findall(part)
        if len(names) > 1:
            between = tuple(dict.fromkeys(PARAMETER.sub('\0', part).split('\0')[1:-1]))
            yield _Ambiguity(len(names), between, len(parts) == 1)


class Budget:
    """A limit for the steps to match a path, against hostile clients.

    :param urls: the URLs of the routes.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self._ambiguities = [found for url in urls for found in ambiguities(url)]

    def refuse_costly(self, path: str) -> None:
        """Refuse ``path`` if matching it takes too many steps.

        :raises NotFound: API Star's.
        """
        if any(ambiguity.steps(path) > MAX_STEPS for ambiguity in self._ambiguities):
            raise exceptions.NotFound()


class WebSocketRouter(Generic[Target]):
    """Finds the target of a path, with API Star's conversions, redirects and errors.

    :param targets: URL, name, handler and target of each route, in order.
    """

    def __init__(self, targets: Sequence[Tuple[str, str, Any, Target]]) -> None:
        rules: List[_TargetRule] = []
        self._segments: _Segments[Target] = _Segments()
        # API Star redirects empty segments, which only the map of rules does.
        self._segments.ambiguous = any('//' in url for url, _, _, _ in targets)
        #: The targets of the routes, in order.
        self.targets = [target for _, _, _, target in targets]
        self.names = {name for _, name, _, _ in targets}
        for url, name, handler, target in targets:
            converters = _path_converters(handler)
            self._segments.add(url.split('/'), converters, target)
            rule = _TargetRule(_rule_url(url, converters), endpoint=name)
            rule.target = target
            rules.append(rule)
        self._adapter = werkzeug.routing.Map(rules).bind('')
        self._budget = Budget(url for url, _, _, _ in targets)
        self.cached_lookup = lru_cache(maxsize=CACHE_SIZE)(self._lookup)

    def lookup(self, path: str) -> Tuple[Target, _MatchedParams]:
        """Return the target of a path and its parameters.

        :raises NotFound: API Star's, if there is none.
        :raises Found: API Star's, with the path to redirect to.
        """
        return self.cached_lookup(path) if len(path) <= _MAX_CACHED_PATH else self._lookup(path)

    def _lookup(self, path: str) -> Tuple[Target, _MatchedParams]:
        return self._segments.match(path.split('/')) or self._match(path)

    def _match(self, path: str) -> Tuple[Target, _MatchedParams]:
        _refuse_relative(path)
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
        """Return whether ``path`` has a WebSocket route."""
        try:
            self.lookup(path)
        except exceptions.HTTPException:
            return False
        return True

    def reverse_url(self, name: str, **params: Any) -> str:
        """Return the path of the route of that name.

        :raises NoReverseMatch: API Star's, if no route has this name and these parameters.
        """
        try:
            return str(self._adapter.build(name, params))
        except werkzeug.routing.BuildError as exc:
            raise exceptions.NoReverseMatch(str(exc)) from None


class Found(exceptions.Found):  # type: ignore[misc]
    """A redirect to a route that nearly matches; its location does not have the root path yet."""


def _refuse_relative(path: str) -> None:
    """Refuse a path that begins with two slashes or with none.

    werkzeug's map strips leading slashes, while ``http.Path`` keeps them: a guard that checks the beginning of a path
    would be bypassed.

    :raises NotFound: API Star's.
    """
    if not path.startswith('/') or path.startswith('//'):
        raise exceptions.NotFound()


class _TargetRule(werkzeug.routing.Rule):
    """A rule of werkzeug with its target; several rules may have the same name."""

    target: Any = None


def _path_converters(handler: Any) -> Dict[str, type]:
    """Return the annotations of a handler's arguments, by which path parameters are converted."""
    return {parameter.name: parameter.annotation for parameter in handler_signature(handler).parameters.values()}


def url_pattern(url: str, handler: Any) -> str:
    """Return ``url`` without the names of its parameters: equal for URLs that match the same paths."""
    return re.sub(':[^>]*>', '>', _rule_url(url, _path_converters(handler)))


def _rule_url(url: str, converters: Dict[str, type]) -> str:
    """Return ``url`` in werkzeug's syntax, as API Star's router writes it."""

    def placeholder(match: 're.Match[str]') -> str:
        parameter = match[1]
        if parameter.startswith('+'):
            return '<path:%s>' % parameter.lstrip('+')
        kind = {int: 'int', float: 'float'}.get(converters.get(parameter, str), 'string')
        return '<%s:%s>' % (kind, parameter)

    return PARAMETER.sub(placeholder, url)


class Router(HTTPRouter):  # type: ignore[misc]
    """API Star's router for HTTP, which answers 426 on paths with only a WebSocket route.

    :param routes: the routes for HTTP.
    """

    def __init__(self, routes: Sequence[Any]) -> None:
        super().__init__(routes)
        self._budget = Budget(url for url, _, _ in self.walk_routes(routes))
        #: Finds the routes for WebSockets; the application sets it.
        self.websockets: WebSocketRouter[Any] = WebSocketRouter([])

    def lookup(self, path: str, method: str) -> Any:
        """Return the route of a request and its path parameters.

        :raises UpgradeRequired: if the path only has a WebSocket route.
        """
        _refuse_relative(path)
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
