"""The page to try the WebSocket routes, over HTTP and in a browser."""

import gzip
import json

import pytest
import requests
from apistar import exceptions, http, types, validators
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_listener, websocket_route, websocket_stream
from apistar_ws.asyncapi.page import _referenced, _script_json, read_text
from apistar_ws.testing import TestClient
from tests.browser.chromium import resize
from tests.needs import needs_browser
from tests.servers import PATIENCE, serving

PAGE = '/docs/websockets/'
#: KB of the page's own script and style, compressed; of all that it loads; and how many requests that are.
MOST_OWN, MOST_ALL, MOST_REQUESTS = 12, 300, 6
UNLABELLED = """
    const fields = [...document.querySelectorAll('input, select, textarea')];
    return fields.filter((field) => !field.labels.length).length;
"""
INLINE = "return document.querySelectorAll('[style], [onclick], script:not([src]):not([type])').length"
BREAK = """
    document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.broken = 1'}));
"""


class Bid(types.Type):
    type = validators.String(enum=['bid'])
    amount = validators.Integer(minimum=1)


class Say(types.Type):
    type = validators.String(enum=['say'])
    text = validators.String(max_length=5)
    tags = validators.Array(items=validators.String(), max_items=2, default=[])


class Code(types.Type):
    code = validators.String(pattern='^[A-Z]{3}$')
    owner = validators.String(pattern='(?a)^[A-Z]')


class Raised(types.Type):
    item = validators.String()
    amount = validators.Integer()
    page = validators.Integer()


class Guard:
    def on_request(self, path: http.Path):
        if path.endswith('/auctions/closed'):
            raise exceptions.Forbidden({'why': 'It is closed'})


@websocket_route('/auctions/{item}', receives=[Bid, Say], sends=Raised, subprotocols=['v1'])
async def auction(item: str, ws: WebSocket, page: int = 7, user_agent: http.Header = None):
    """Bid <script>alert(1)</script> for something."""
    async for message in ws:
        if isinstance(message, Say):
            raise exceptions.Forbidden('Only bids')
        await ws.send(Raised(item=item, amount=message.amount, page=page))


@websocket_listener('/echo')
async def echo(message: str) -> str:
    return message


@websocket_stream('/bytes')
async def send_bytes():
    yield b'\x00\xff'
    yield 'done'


@websocket_listener('/codes', receives=Code)
async def codes(message: Code):
    """Receive codes."""


@websocket_route('/own', connect=False)
async def own(ws: WebSocket):
    await ws.connect(subprotocol=ws.subprotocols[0] if ws.subprotocols else None)
    await ws.send_json([ws.subprotocols, ws.url.partition('?')[2]])


def app(**options):
    hooks = options.pop('event_hooks', [Guard])
    handlers = collect_routes(auction, echo, send_bytes, codes, own)
    return ASyncApp(handlers, event_hooks=hooks, websocket_docs_explain=True, **options)


def test_page_is_rendered_as_text():
    """Docstrings are escaped, and every route has a console."""
    response = TestClient(app()).get(PAGE)
    assert response.headers['content-type'] == 'text/html; charset=utf-8'
    assert "script-src 'self'" in response.headers['content-security-policy']
    page = response.text
    assert 'Bid &lt;script&gt;alert(1)&lt;/script&gt; for something.' in page and '<script>alert' not in page
    assert page.count('class="console"') == 5
    fields = ('name="path:item"', 'name="query:page" value="7"', 'header <code>user-agent</code>')
    for shown in (*fields, 'href="../"', 'href="../../schema/websockets/"'):
        assert shown in page
    assert [href for href in ('apistar/css/base.css', 'console.css', 'console.js') if href not in page] == []


def test_consoles_have_referenced_schemas():
    """A console has the schemas that its messages refer to, and no others."""
    components = {
        'A': {'items': [{'$ref': '#/components/schemas/B'}]},
        'B': {'x': {'$ref': '#/components/schemas/A'}},
        'C': {},
    }
    assert _referenced([{'$ref': '#/components/schemas/A'}], components) == {name: components[name] for name in 'AB'}
    assert _referenced([{'type': 'string'}], components) == {}


def test_embedded_json_is_escaped():
    """Embedded JSON cannot close its script element."""
    text = _script_json({'a': '</script><b>&amp;'})
    assert '<' not in text and '&' not in text
    assert json.loads(text) == {'a': '</script><b>&amp;'}


def test_assets_are_small():
    """Script and style are served with their media types, and stay small."""
    client = TestClient(app())
    kinds = {'console.js': 'text/javascript; charset=utf-8', 'console.css': 'text/css; charset=utf-8'}
    size = 0
    for name, kind in kinds.items():
        response = client.get(PAGE + name)
        assert response.headers['content-type'] == kind and response.text == read_text('static', name)
        size += len(gzip.compress(response.content, 9))
    assert size < MOST_OWN * 1024


@pytest.mark.parametrize('url', [PAGE, PAGE + 'console.js', PAGE + 'console.css', '/schema/websockets/', '/schema/'])
def test_responses_are_not_shared(url):
    """A header that a hook adds is sent to one client only."""

    class Session:
        def on_response(self, response: http.Response, path: http.Path, session: http.QueryParam = None):
            if session:
                response.headers['Set-Cookie'] = 'session=%s' % session

    client = TestClient(app(event_hooks=[Session]))
    assert client.get(url + '?session=ann').headers['set-cookie'] == 'session=ann'
    assert 'set-cookie' not in client.get(url).headers


def test_page_works_without_static_files():
    """Without API Star's static files it has only its own style."""
    page = TestClient(app(static_url=None, docs_url=None, websocket_docs_url='/try')).get('/try').text
    assert 'bootstrap' not in page and 'href="try/console.css"' in page


def mounted(application, prefix):
    """Return the application behind a proxy that serves it under a prefix."""

    async def serve(scope, receive, send):
        given = scope if scope['type'] == 'lifespan' else {**scope, 'root_path': prefix}
        await application(given, receive, send)

    return serve


@pytest.fixture(scope='module')
def server():
    with serving(app()) as running:
        yield running


@needs_browser
class TestBrowser:  # pragma: no cover
    @pytest.fixture
    def driver(self, browser):
        browser.switch_to.new_window('tab')
        resize(browser, 1280, 900)
        yield browser
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})
        browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        browser.close()
        browser.switch_to.window(browser.window_handles[0])

    @pytest.fixture
    def page(self, driver, server):
        driver.get(server.http_url + PAGE)
        return Page(driver)

    def test_route_can_be_tried(self, page):
        """A route is tried from its path parameter to its close."""
        page.fill('path:item', 'tea pot')
        assert page.value('url') == '/auctions/tea%20pot?page=7'
        page.do('connect')
        page.until_state('Connected, subprotocol v1')
        assert json.loads(page.value('text')) == {'type': 'bid', 'amount': 1}
        page.do('send')
        page.until_log('"item": "tea pot",\n  "amount": 1,\n  "page": 7')
        page.fill('text', '{"type": "bid", "amount": 0}')
        assert page.find('.problem').text == 'This is not what the route receives: amount: is too small'
        page.do('send')
        assert page.find('.log').text.count('sent') == 1
        page.find('[name=anyway]').click()
        page.do('send')
        page.until_state('Closed with 1007, Invalid message: amount: A message is not JSON')
        page.do('connect')
        page.until_state('Connected')
        page.choose('template', 'Say')
        page.do('send')
        page.until_state('Closed with 4403, Only bids: The handler raised what is 403 over HTTP: Forbidden.')
        assert page.find('.age').text == ''

    def test_denials_are_explained(self, page):
        """The button shows status and body of a denied handshake."""
        page.fill('path:item', 'closed')
        page.do('connect')
        page.until_state('Closed with 1006: The handshake was denied, or the server does not answer.')
        page.do('explain')
        page.until_log('denied 403\n{"why":"It is closed"}')
        page.fill('path:item', 'open')
        page.do('explain')
        page.until_log('would be accepted')

    def test_other_messages_and_tokens(self, driver, server):
        """Text, bytes and tokens are sent and shown."""
        driver.get(server.http_url + PAGE)
        echo, stream, own = Page(driver, 'echo'), Page(driver, 'send_bytes'), Page(driver, 'own')
        echo.do('connect')
        echo.until_state('Connected')
        echo.fill('text', 'hello', Keys.CONTROL, Keys.ENTER)
        echo.until_log('received text, 5 bytes\nhello')
        echo.find('[name=filter]').send_keys('received')
        assert 'sent' not in echo.find('.log').text
        echo.do('clear')
        assert echo.find('.log').text == ''
        stream.do('connect')
        stream.until_log('received binary, 2 bytes\n00 ff')
        stream.until_state('Closed with 1000: The handler has returned.')
        assert 'decides itself' in own.section.text
        own.fill('token', 'secret')
        own.do('connect')
        own.until_log('"token.secret"')
        own.choose('how', 'query: token=…')
        assert own.value('url') == '/own?token=secret'

    def test_placeholders_are_to_be_replaced(self, driver, server):
        driver.get(server.http_url + PAGE)
        page = Page(driver, 'codes')
        assert json.loads(page.value('text')) == {'code': '<matches ^[A-Z]{3}$>', 'owner': '<matches (?a)^[A-Z]>'}
        assert page.find('.problem').text == 'This is not what the route receives: code: has to match ^[A-Z]{3}$'
        page.fill('text', '{"code": "ABC", "owner": "Ann"}')
        assert page.find('.problem').text == ''

    def test_keyboard_is_enough(self, page):
        """Enter connects, and every field has a label."""
        field = page.find('[name="path:item"]')
        field.send_keys(Keys.ENTER)
        page.until_state('Connected')
        assert page.run(UNLABELLED) == 0
        assert page.find('.state').get_attribute('role') == 'status'

    def test_page_is_small_and_safe(self, page, server):
        """It loads few files of the same origin, and the security policy is in force."""
        loaded = page.run(
            "return ['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind)).map((e) => e.name)"
        )
        assert all(url.startswith(server.http_url) for url in loaded)
        assert len(loaded) <= MOST_REQUESTS
        assert sum(len(requests.get(url, timeout=PATIENCE).content) for url in loaded) < MOST_ALL * 1024
        assert page.run(INLINE) == 0
        # The policy is there: what breaks it does not run.
        page.run(BREAK)
        assert page.run('return window.broken') is None

    @pytest.mark.parametrize('width', [390, 768, 1280])
    def test_layout_fits_screens_and_schemes(self, driver, server, width):
        """It fits the width of phones and desktops, and has a dark scheme."""
        for scheme, dark in (('light', False), ('dark', True)):
            features = [{'name': 'prefers-color-scheme', 'value': scheme}]
            driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
            resize(driver, width, 844)
            driver.get(server.http_url + PAGE)
            page = Page(driver)
            assert page.run('return document.documentElement.scrollWidth') <= width
            colour = page.run('return getComputedStyle(document.body).backgroundColor')
            assert (sum(map(int, colour[4:-1].split(','))) < 200) is dark

    def test_prefix_of_a_proxy_works(self, driver):
        """Behind a proxy with a prefix it connects, and explains denials."""
        with serving(mounted(app(), '/api')) as server:
            driver.get(server.http_url + '/api' + PAGE)
            page = Page(driver)
            page.do('connect')
            page.until_state('Connected')
            page.do('disconnect')
            page.until_state('Closed with 1000')
            page.fill('path:item', 'closed')
            page.do('connect')
            page.until_state('Closed with 1006')
            page.do('explain')
            page.until_log('denied 403')


class Page:  # pragma: no cover
    """One console of the page."""

    def __init__(self, driver, route='auction'):
        self.driver = driver
        self.section = driver.find_element(By.ID, route)

    def find(self, selector):
        return self.section.find_element(By.CSS_SELECTOR, selector)

    def run(self, script):
        return self.driver.execute_script(script)

    def value(self, name):
        return self.find('[name="%s"]' % name).get_property('value')

    def fill(self, name, *keys):
        self.find('[name="%s"]' % name).clear()
        self.find('[name="%s"]' % name).send_keys(*keys)

    def choose(self, name, text):
        field = self.find('[name="%s"]' % name)
        next(option for option in field.find_elements(By.TAG_NAME, 'option') if option.text == text).click()

    def do(self, name):
        button = self.find('[data-do=%s]' % name)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def until(self, condition, what):
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition(), what)

    def until_state(self, text):
        self.until(lambda: self.find('.state').text.startswith(text), text)

    def until_log(self, text):
        self.until(lambda: text in self.find('.log').text, text)
