import re

import pytest
from apistar import Include, Route, exceptions
from apistar.server.router import Router as HTTPRouter
from hypothesis import example, given
from hypothesis import strategies as st

from apistar_ws.routing.router import CACHE_SIZE, MAX_STEPS, Budget, Router, WebSocketRouter, ambiguities, split_routes

ANNOTATIONS = {'n': int, 'x': float}


def handler_for(url):
    """Return a handler whose arguments are the parameters of ``url``: n an int, x a float, all others text."""
    names = re.findall(r'{\+?(\w+)}', url)
    namespace = {'ANNOTATIONS': ANNOTATIONS}
    arguments = ', '.join('%s: ANNOTATIONS.get(%r, str)' % (name, name) for name in names)
    exec('async def handler(%s): pass' % arguments, namespace)
    return namespace['handler']


def router_of(*urls):
    return WebSocketRouter([(url, 'name%d' % i, handler_for(url), url) for i, url in enumerate(urls)])


def http_router_of(*urls):
    return HTTPRouter([Route(url, 'GET', handler_for(url), name='name%d' % i) for i, url in enumerate(urls)])


def outcome(lookup):
    try:
        return lookup()
    except exceptions.Found as exc:
        return 'redirect', exc.location
    except exceptions.NotFound:
        return 'not found'


@pytest.mark.parametrize(
    'url, path, params',
    [
        ('/', '/', {}),
        ('/chat', '/chat', {}),
        ('/chat/{room}', '/chat/a', {'room': 'a'}),
        ('/chat/{room}', '/chat/é b', {'room': 'é b'}),
        ('/{room}/chat', '/a/chat', {'room': 'a'}),
        ('/{room}', '/a', {'room': 'a'}),
        ('/item/{n}', '/item/12', {'n': 12}),
        ('/item/{n}', '/item/007', {'n': 7}),
        ('/item/{n}', '/item/' + '1' * 30, {'n': int('1' * 30)}),
        ('/at/{x}', '/at/1.5', {'x': 1.5}),
        ('/files/{+path}', '/files/a/b/c.txt', {'path': 'a/b/c.txt'}),
        ('/{+path}', '/a/b', {'path': 'a/b'}),
        ('/room-{room}/{n}', '/room-a/1', {'room': 'a', 'n': 1}),
        ('/chat/', '/chat/', {}),
    ],
)
def test_parameters_are_converted(url, path, params):
    """Parameters of every kind are found and converted."""
    target, found = router_of(url).lookup(path)
    assert (target, found, [type(v) for v in found.values()]) == (url, params, [type(v) for v in params.values()])


@pytest.mark.parametrize(
    'url, path',
    [
        ('/chat', '/nope'),
        ('/chat/{room}', '/chat'),
        ('/chat/{room}', '/chat/'),
        ('/chat/{room}', '/chat/a/b'),
        ('/item/{n}', '/item/a'),
        ('/item/{n}', '/item/-1'),
        ('/item/{n}', '/item/1.5'),
        ('/item/{n}', '/item/' + '1' * 5000),
        ('/at/{x}', '/at/1'),
    ],
)
def test_other_paths_are_not_found(url, path):
    """A path that does not match or convert is not found."""
    with pytest.raises(exceptions.NotFound):
        router_of(url).lookup(path)


@pytest.mark.parametrize(
    'url, path, location',
    [('/chat/', '/chat', '/chat/'), ('/chat/a', '/chat//a', '/chat/a'), ('/chat//a', '/chat//a', '/chat/a')],
)
def test_redirects_match_api_star(url, path, location):
    """Paths that API Star redirects are redirected."""
    with pytest.raises(exceptions.Found) as info:
        router_of(url).lookup(path)
    assert info.value.location == location


URLS = [
    '/', '/chat', '/chat/', '/chat/{room}', '/chat/{n}', '/chat/all', '/chat/{room}/log', '/chat/{room}/{n}',
    '/chat/{+rest}', '/{room}', '/{n}', '/{x}', '/{+rest}', '/v{n}/chat', '/chat/{room}-{n}', '/chat/{x}', '/{a}/{b}',
]  # fmt: skip
PARTS = [
    'chat',
    'all',
    'log',
    'a',
    '1',
    '2.5',
    'v1',
    'a-1',
    '',
    '٣',
    'é',
    ' ',
    '1a',
    '{room}',
    '<x>',
    'a\nb',
    '.',
    '..',
    '%2F',
    '%2e',
]


@given(
    st.lists(st.sampled_from(URLS), unique=True, min_size=1, max_size=5),
    st.lists(st.sampled_from(PARTS), max_size=4),
)
@example(['/chat/'], ['chat'])
@example(['/{+rest}'], ['', 'chat'])
@example(['/chat/{room}'], ['chat', '', 'a'])
def test_paths_match_api_stars_router(urls, parts):
    """Every path leads to the same route as in API Star's router."""
    path = '/' + '/'.join(parts)
    ours, theirs = router_of(*urls), http_router_of(*urls)

    def expected():
        # The one deviation: werkzeug strips leading slashes, and a guard that asks for the path is walked past.
        if path.startswith('//'):
            raise exceptions.NotFound
        route, params = theirs.lookup(path, 'GET')
        return route.url, params

    assert outcome(lambda: ours.lookup(path)) == outcome(expected)


@pytest.mark.parametrize('path', ['//chat/a', '///chat/a', 'chat/a', '', '//'])
def test_path_needs_one_leading_slash(path):
    """A path without a leading slash, or with two, is not found."""
    websockets, http = router_of('/chat/{room}', '/{+rest}', '/'), http_of('/chat/{room}', '/')
    for router, arguments in [(websockets, ()), (http, ['GET'])]:
        with pytest.raises(exceptions.NotFound):
            router.lookup(path, *arguments)


def http_of(*urls):
    return Router([Route(url, 'GET', handler_for(url), name=url) for url in urls])


def test_cache_of_lookups_is_bounded():
    """The cache of lookups is bounded."""
    router = router_of('/chat/{room}')
    for i in range(CACHE_SIZE + 10):
        router.lookup('/chat/%d' % i)
        with pytest.raises(exceptions.NotFound):
            router.lookup('/nope/%d' % i)
    assert router.cached_lookup.cache_info().currsize == CACHE_SIZE


def test_long_path_is_not_cached():
    """A long path is found and not cached."""
    router = router_of('/chat/{room}')
    assert router.lookup('/chat/' + 'x' * 300) == ('/chat/{room}', {'room': 'x' * 300})
    assert router.cached_lookup.cache_info().currsize == 0


def test_names_lead_back_to_paths():
    router = WebSocketRouter(
        [(url, 'chat', handler_for(url), url) for url in ('/chat/{room}', '/chat/{room}/{n}', '/files/{+path}')]
    )
    assert router.reverse_url('chat', room='a b') == '/chat/a%20b'
    assert router.reverse_url('chat', room='a', n=1) == '/chat/a/1'
    assert router.reverse_url('chat', path='a/b') == '/files/a/b'
    with pytest.raises(exceptions.NoReverseMatch):
        router.reverse_url('chat', other=1)


class TestHTTP:
    @pytest.fixture
    def router(self):
        routes = [Route(url, 'GET', handler_for(url), name=url) for url in ('/page', '/both')]
        websockets = WebSocketRouter([(url, url, handler_for(url), url) for url in ('/both', '/chat', '/slash/')])
        router = Router(routes)
        router.websockets = websockets
        return router

    def test_websocket_path_requires_upgrade(self, router):
        """Plain HTTP on the path of a WebSocket is answered with 426."""
        for path, method in [('/chat', 'GET'), ('/chat', 'POST')]:
            with pytest.raises(exceptions.HTTPException) as info:
                router.lookup(path, method)
            assert info.value.status_code == 426

    def test_everything_else_is_as_without_websockets(self, router):
        assert router.lookup('/page', 'GET')[0].url == '/page'
        assert router.lookup('/both', 'GET')[0].url == '/both'
        for path, method, status in [('/nope', 'GET', 404), ('/slash', 'GET', 404), ('/page', 'POST', 405)]:
            with pytest.raises(exceptions.HTTPException) as info:
                router.lookup(path, method)
            assert info.value.status_code == status

    def test_names_of_both_kinds_resolve(self, router):
        """The names of both kinds of routes lead to their paths."""
        assert (router.reverse_url('/page'), router.reverse_url('/chat')) == ('/page', '/chat')
        with pytest.raises(exceptions.NoReverseMatch):
            router.reverse_url('/nope')


def test_routes_are_split_with_nesting():
    """Routes are split by kind and keep their nesting."""
    page, chat, deep = [Route(url, 'GET', handler_for(url), name=url[1:]) for url in ('/page', '/chat', '/deep')]
    only_http = Include('/http', 'http', [page])
    routes = [page, only_http, Include('/a', 'a', [chat, page, Include('/b', 'b', [deep])])]
    http, websockets = split_routes(routes, lambda route: route in (chat, deep))
    assert [(found.url, found.name, found.route) for found in websockets] == [
        ('/a/chat', 'a:chat', chat),
        ('/a/b/deep', 'a:b:deep', deep),
    ]
    assert http[:2] == [page, only_http]
    assert [type(item) for item in http[2].routes] == [Route, Include]
    assert http[2].section.content == [page.link]
    assert len(routes[2].routes) == 3


def at(url):
    """Return a handler with the parameters of a URL."""
    namespace = {}
    exec('async def handler(%s): pass' % ', '.join(re.findall(r'{[+]?([a-z]+)}', url)), namespace)
    return namespace['handler']


HOSTILE = [
    ('/{year}-{month}-{day}.csv', '/2026-11-29.csv', '/' + '-' * 1500),
    ('/{a}{b}/x', '/ab/x', '/' + 'a' * 20_000 + '/y'),
    ('/{a}-{b}-{c}-{d}-{e}', '/1-2-3-4-5', '/' + '-' * 200),
    ('/{+a}/x/{+b}/y', '/1/2/x/3/4/y', '/x' * 20_000),
    ('/{+a}{+b}{+c}/y', '/abc/y', '/x' * 5000),
    ('/{a}-{b}/{c}-{d}', '/1-2/3-4', '/' + '-' * 5000 + '/' + '-' * 5000),
]


class TestHostilePaths:
    """URLs with several parameters between two slashes, and paths that can be taken apart in many ways."""

    @pytest.mark.parametrize('url, path, hostile', HOSTILE)
    def test_over_http_they_are_not_found(self, url, path, hostile):
        router = Router([Route(url, 'GET', at(url))])
        assert router.lookup(path, 'GET')[0].url == url
        with pytest.raises(exceptions.NotFound):
            router.lookup(hostile, 'GET')

    @pytest.mark.parametrize('url, path, hostile', HOSTILE)
    def test_websocket_paths_are_not_found(self, url, path, hostile):
        """For a WebSocket, hostile paths are not found."""
        router = WebSocketRouter([(url, 'name', at(url), 'target')])
        assert router.lookup(path)[0] == 'target'
        with pytest.raises(exceptions.NotFound):
            router.lookup(hostile)

    @pytest.mark.parametrize('url, path, hostile', HOSTILE)
    @pytest.mark.parametrize('size', [10, 100, 1000, 10_000, 100_000])
    def test_matching_takes_bounded_steps(self, url, path, hostile, size):
        """The number of steps to match a path is bounded."""
        budget = Budget([url])
        try:
            budget.refuse_costly(hostile[:size])
        except exceptions.NotFound:
            return
        assert max(found.steps(hostile[:size]) for found in ambiguities(url)) <= MAX_STEPS

    @pytest.mark.parametrize('url', ['/', '/a', '/{a}', '/{a}/{b}', '/x-{a}/{b}-y', '/{+path}'])
    def test_other_urls_have_no_bound(self, url):
        assert list(ambiguities(url)) == []
