"""The chat demo in a real browser, served by a real uvicorn."""

import contextlib
import importlib.util
import json
import socket
import subprocess
import threading
from types import SimpleNamespace

import pytest
import requests
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from websockets.sync.client import connect

from apistar_ws import ASyncApp, WebSocket, collect_routes, websocket_route
from tests.browser.chromium import resize
from tests.needs import needs_browser, needs_make, needs_redis
from tests.servers import ROOT, eventually, free_port, process, serving

#: Seconds for the page to show what a test waits for; far more than it takes.
PATIENCE = 20.0
pytestmark = needs_browser


# No coverage is asked of what a machine without a browser does not run.
class Tab:  # pragma: no cover
    """A tab of the browser, with the page of the demo."""

    def __init__(self, driver, url):
        driver.switch_to.new_window('tab')
        self.driver, self.handle = driver, driver.current_window_handle
        self.open(url)

    def open(self, url):
        self.driver.switch_to.window(self.handle)
        self.driver.get(url)

    def reload(self):
        self.driver.switch_to.window(self.handle)
        self.driver.refresh()

    def find(self, selector):
        self.driver.switch_to.window(self.handle)
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.find(selector).text

    def value(self, selector):
        return self.find(selector).get_property('value')

    def texts(self, selector):
        script = 'return [...document.querySelectorAll(arguments[0])].map((item) => item.textContent)'
        return self.run(script, selector)

    def run(self, script, *arguments):
        self.driver.switch_to.window(self.handle)
        return self.driver.execute_script(script, *arguments)

    def run_module(self, script, *arguments):
        """Return what the body ``script`` of an async function gives; it has the client of the page."""
        self.driver.switch_to.window(self.handle)
        self.driver.set_script_timeout(PATIENCE)
        return self.driver.execute_async_script(
            'const [done, ...given] = [...arguments].reverse();'
            "import('/reconnecting.js').then(({Reconnecting}) => (async (...given) => {%s})(...given.reverse()))"
            '.then(done, (exc) => done(String(exc)))' % script,
            *arguments,
        )

    def until(self, condition, what):
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition(), what)

    def until_shown(self, selector, text):
        self.until(lambda: text in self.text(selector), '%r in %s' % (text, selector))

    def until_state(self, state):
        self.until(lambda: self.find('body').get_attribute('data-state') == state, 'the state %r' % state)

    def until_said(self, *texts):
        self.until(lambda: self.texts('.said') == list(texts), 'the messages %r' % (texts,))

    def join(self, name, room):
        if self.find('#change').is_displayed():
            self.find('#change').click()
        for selector, text in [('#name', name), ('#room', room)]:
            self.find(selector).clear()
            self.find(selector).send_keys(text)
        self.find('#join').click()
        self.until_state('open')
        self.until_shown('#people', '%s (you)' % name)

    def say(self, text):
        self.find('#text').send_keys(text, Keys.ENTER)


class Peer:  # pragma: no cover
    """Somebody in the room who is no browser."""

    def __init__(self, ws):
        self.ws, self.skipped = ws, []

    def until(self, condition):
        """Read on to a message for which ``condition`` holds."""
        while not condition(message := json.loads(self.ws.recv(PATIENCE))):
            self.skipped.append(message)

    def until_said(self, text):
        self.until(lambda message: message.get('text') == text)

    def say(self, *texts):
        """Say each of ``texts``, and see that it has arrived."""
        for text in texts:
            self.ws.send(json.dumps({'text': text}))
            self.until_said(text)


@contextlib.contextmanager
def joined(server, name):  # pragma: no cover
    """Have somebody in the room ``test`` for the length of the block."""
    url = '%s/rooms/test?name=%s&client=of-%s' % (server.ws_url, name, name)
    with connect(url, proxy=None, open_timeout=PATIENCE) as ws:
        peer = Peer(ws)
        # Whoever is told where it stands is in the room.
        peer.until(lambda message: list(message) == ['position'])
        yield peer


class Proxy:  # pragma: no cover
    """The network between a browser and a server, which can be cut."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(('127.0.0.1', 0))
        self._sockets, self._threads = [], []
        self.url = 'http://127.0.0.1:%d' % self._listener.getsockname()[1]
        #: What is lost on its way to the server, or from it; connections that came while it was cut.
        self.loses = None
        self.is_cut = False
        self.refused = 0

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *exc_info):
        self.cut()
        shut(self._listener)
        for thread in self._threads:
            thread.join(PATIENCE)
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def cut(self):
        """Close all connections, and those that come."""
        self.is_cut = True
        for sock in list(self._sockets):
            shut(sock)

    def mend(self):
        self.is_cut, self.loses = False, None

    def _start(self, function, *arguments):
        self._threads.append(threading.Thread(target=function, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                if self.is_cut:
                    self.refused += 1
                    client.close()
                    continue
                server = socket.create_connection(('127.0.0.1', self._target))
                self._sockets += [client, server]
                self._start(self._carry, client, server, 'to')
                self._start(self._carry, server, client, 'from')

    def _carry(self, source, sink, direction):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.loses != direction:
                    sink.sendall(data)
        shut(source)
        shut(sink)


def shut(sock):  # pragma: no cover
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def chat(monkeypatch):  # pragma: no cover
    """The module of the demo, with no one in its rooms."""
    monkeypatch.delenv('REDIS', raising=False)
    spec = importlib.util.spec_from_file_location('chat', ROOT / 'docs' / 'examples' / 'chat.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(chat):  # pragma: no cover
    with serving(chat.app) as running:
        yield running


@pytest.fixture
def driver(browser):  # pragma: no cover
    """The browser, whose tabs are closed after the test: each has a storage of its own."""
    first = browser.current_window_handle
    yield browser
    for handle in set(browser.window_handles) - {first}:
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(first)


@pytest.fixture
def ann(driver, server):  # pragma: no cover
    """Ann's tab, not in a room yet."""
    return Tab(driver, server.http_url)


@pytest.fixture
def tabs(driver, server):  # pragma: no cover
    """Ann's tab and Bob's, both in the room ``test``."""
    ann, bob = Tab(driver, server.http_url), Tab(driver, server.http_url)
    ann.join('Ann', 'test')
    bob.join('Bob', 'test')
    ann.until_shown('#people', 'Bob')
    return ann, bob


def test_messages_reach_the_room_as_text(tabs):  # pragma: no cover
    """Everybody in the room reads a message as text, with its author."""
    ann, bob = tabs
    ann.say('Hello <b>Bob</b>')
    bob.until_shown('#log', 'Hello <b>Bob</b>')
    assert bob.text('.message .author') == 'Ann'
    assert bob.find('.message').get_attribute('class') == 'message'
    ann.until_shown('.message.own', 'Hello <b>Bob</b>')
    assert ann.value('#text') == ''


def test_refused_message_is_explained(tabs):  # pragma: no cover
    """A refused message is explained beside the input and can be changed."""
    ann, bob = tabs
    ann.say('x' * 501)
    ann.until_shown('#problem', 'Must have no more than 500 characters.')
    assert ann.value('#text') == 'x' * 501
    ann.find('#text').clear()
    ann.say('   ')
    ann.until_shown('#problem', 'Must not be blank.')
    ann.say('Short.')
    bob.until_shown('#log', 'Short.')
    assert ann.text('#problem') == ''
    assert 'xxx' not in ann.text('#log') and 'blank' not in ann.text('#log')


def test_room_is_switched_and_kept(tabs, server):  # pragma: no cover
    """The form and the address switch the room, and a reload keeps it."""
    ann, bob = tabs
    ann.say('Only for this room.')
    ann.until_shown('#log', 'Only for this room.')
    ann.join('Ann', 'Other room')
    bob.until(lambda: 'Ann' not in bob.text('#people'), 'Ann to be gone')
    assert 'Only for this room.' not in ann.text('#log')
    bob.open(server.http_url + '/#Other%20room')
    ann.until_shown('#people', 'Bob')
    bob.reload()
    bob.until_shown('#status', 'Connected to #Other room')
    bob.until_shown('#people', 'Bob (you)')


def test_newcomer_reads_the_history(ann, server):  # pragma: no cover
    """A person who joins or reloads reads the messages sent before."""
    with joined(server, 'Bob') as bob:
        bob.say('One', 'Two')
        ann.join('Ann', 'test')
        ann.until_said('One', 'Two')
        bob.say('Three')
        ann.say('Four')
        ann.until_said('One', 'Two', 'Three', 'Four')
    ann.reload()
    ann.until_state('open')
    ann.until_said('One', 'Two', 'Three', 'Four')
    assert ann.texts('.own .said') == ['Four']


def test_history_shows_last_messages(ann, server):  # pragma: no cover
    """The last messages of a long history are shown."""
    texts = [str(number) for number in range(60)]
    for part in (texts[:20], texts[20:40], texts[40:]):
        with joined(server, 'Bob') as bob:
            bob.say(*part)
    ann.join('Ann', 'test')
    ann.until_said(*texts[10:])


def test_joins_and_leaves_are_listed(ann, server):  # pragma: no cover
    """A person who joins or leaves is noted in the log and in the list."""
    ann.join('Ann', 'test')
    assert ann.texts('#people li') == ['Ann (you)']
    with joined(server, 'Bob'), joined(server, 'Ann'):
        ann.until(lambda: ann.texts('#people li') == ['Ann (you)', 'Ann', 'Bob'], 'the people')
        ann.until_shown('#log', 'Bob')
        assert ann.text('#present') == 'People (3)'
    ann.until(lambda: ann.texts('#people li') == ['Ann (you)'], 'Ann to be alone')
    notes = ', '.join(ann.texts('.note'))
    assert notes.count('joined') == notes.count('left') > 0
    assert notes.startswith('You are in #test')


def test_name_and_room_become_one_line(ann):  # pragma: no cover
    """Name and room are shown in one line until the user changes them."""
    assert not ann.find('.you').is_displayed()
    ann.join('Ann', 'test')
    assert ann.text('.you') == 'You are Ann in #test · Change'
    assert not ann.find('#name').is_displayed()
    ann.find('#change').click()
    ann.find('#name').send_keys('ika', Keys.ESCAPE)
    assert ann.text('.you') == 'You are Ann in #test · Change'
    ann.find('#change').click()
    ann.find('#name').send_keys('ika')
    ann.find('#join').click()
    ann.until_shown('#people', 'Annika (you)')
    assert ann.text('.you') == 'You are Annika in #test · Change'


def test_author_is_shown_once(ann, server):  # pragma: no cover
    """Messages of one author in a row show the author once."""
    with joined(server, 'Bob') as bob, joined(server, 'Eve') as eve:
        bob.say('One', 'Two')
        eve.say('Three')
        bob.say('Four')
        ann.join('Ann', 'test')
        ann.until_said('One', 'Two', 'Three', 'Four')
        assert ann.texts('.message:not(.more) .author') == ['Bob', 'Eve', 'Bob']
        assert ann.texts('.more .said') == ['Two']
        # A note is between them.
        bob.say('Five')
        ann.until_said('One', 'Two', 'Three', 'Four', 'Five')
        assert ann.texts('.message:not(.more) .author') == ['Bob', 'Eve', 'Bob', 'Bob']


def test_new_messages_are_announced(ann, server):  # pragma: no cover
    """A reader who has scrolled up is notified of new messages."""
    at_end = (
        "const log = document.querySelector('#log'); return log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    )
    with joined(server, 'Bob') as bob:
        bob.say(*['%d %s' % (number, 'word ' * 90) for number in range(15)])
        ann.join('Ann', 'test')
        ann.until(lambda: ann.run(at_end), 'the end')
        assert ann.run('return document.documentElement.scrollHeight <= innerHeight')
        bob.say('Read at the end')
        ann.until_shown('#log', 'Read at the end')
        assert not ann.find('#newer').is_displayed()
        ann.run("document.querySelector('#log').scrollTop = 0")
        ann.run('return new Promise(requestAnimationFrame)')
        bob.say('Not seen')
        ann.until(lambda: ann.find('#newer').is_displayed(), 'the button')
        assert not ann.run(at_end)
        ann.find('#newer').click()
        assert ann.run(at_end)
        assert not ann.find('#newer').is_displayed()


def test_lost_connection_is_restored(driver, chat):  # pragma: no cover
    """A page shows that the connection is lost and restores it."""
    with serving(chat.app) as server:
        ann, bob = Tab(driver, server.http_url), Tab(driver, server.http_url)
        ann.join('Ann', 'test')
        bob.join('Bob', 'test')
        port = server.port
    for tab in (ann, bob):
        tab.until_state('lost')
        tab.until_shown('#status', 'Connection lost. Trying again in')
        assert not tab.find('#send').is_enabled()
        assert tab.text('#people') == ''
    ann.say('Are you there?')
    assert ann.value('#text') == 'Are you there?'
    with serving(chat.app, port=port):
        for tab in (ann, bob):
            tab.until_state('open')
            tab.until_shown('#status', 'Connected again')
        ann.until_shown('#people', 'Bob')
        ann.say(' I am.')
        bob.until_shown('#log', 'Are you there? I am.')
        for tab in (ann, bob):
            tab.until(lambda: tab.texts('.loss') == ['Messages were lost'], 'the loss to be told once')
            assert tab.texts('.note').count('Connected again') == 1


def test_cut_loses_and_repeats_nothing(driver, server):  # pragma: no cover
    """After a cut the page continues without missing or repeated messages."""
    with Proxy(server.port) as network, joined(server, 'Bob') as bob:
        ann = Tab(driver, network.url)
        ann.join('Ann', 'test')
        bob.say('One')
        ann.say('Two')
        ann.until_said('One', 'Two')
        network.cut()
        ann.until_state('lost')
        bob.say('Three', 'Four')
        for tries in range(1, 4):
            ann.find('#retry').click()
            eventually(lambda: network.refused >= tries, 'another try')
        bob.say('Five')
        network.mend()
        ann.find('#retry').click()
        ann.until_state('open')
        ann.until_said('One', 'Two', 'Three', 'Four', 'Five')
        bob.say('Six')
        ann.until_said('One', 'Two', 'Three', 'Four', 'Five', 'Six')
        assert ann.texts('.note').count('Connected again') == 1
        assert ann.texts('.loss') == []
        assert ann.texts('#people li') == ['Ann (you)', 'Bob']


def test_message_survives_a_cut(driver, server):  # pragma: no cover
    """A message sent during a cut arrives once or returns to the input."""
    with Proxy(server.port) as network, joined(server, 'Bob') as bob:
        ann = Tab(driver, network.url)
        ann.join('Ann', 'test')
        network.loses = 'from'
        ann.say('It arrives')
        bob.until_said('It arrives')
        network.cut()
        ann.until_shown('#problem', 'Your last message may not have arrived.')
        network.mend()
        ann.until_said('It arrives')
        ann.until_state('open')
        assert (ann.text('#problem'), ann.value('#text')) == ('', '')
        network.loses = 'to'
        ann.say('It does not')
        network.cut()
        network.mend()
        ann.until(lambda: ann.value('#text') == 'It does not', 'the message to be given back')
        ann.until_state('open')
        ann.until_shown('#problem', 'Your last message may not have arrived.')
        ann.find('#text').send_keys(Keys.ENTER)
        ann.until_said('It arrives', 'It does not')


def test_refusal_is_final(driver, server):  # pragma: no cover
    """A refused connection is explained and not retried."""
    ann = Tab(driver, server.http_url + '/#' + 'x' * 41)
    ann.find('#name').send_keys('Ann', Keys.ENTER)
    ann.until_state('stopped')
    assert ann.text('#status') == 'Disconnected. The server says: There is no such room'
    assert ann.find('#retry').is_displayed()
    ann.join('Ann', 'test')


class Gate:  # pragma: no cover
    """Accepts, and closes with the codes that it is told, and tells where clients say that they are."""

    def __init__(self, chat):
        self.seen = []

        @websocket_route('/gate/{codes}')
        async def gate(codes: str, ws: WebSocket, since: str = ''):
            number, code = len(self.seen), codes.split(',')[len(self.seen)]
            self.seen.append(since)
            if code == '1013':
                await ws.send_json({'position': 'p-%d' % number})
            await ws.close(int(code))

        client = chat.file_route('/reconnecting.js', 'reconnecting.js', 'text/javascript')
        self.app = ASyncApp([chat.file_route('/', 'chat.html', 'text/html'), client, *collect_routes(gate)])


#: Connects to the first argument, waits for nothing, and returns what it was told, to the end or the second argument.
OUTCOMES = """
    const [url, count] = given;
    const told = [], wait = setTimeout;
    Math.random = () => 0.5;
    setTimeout = (react, delay) => wait(react, 0);
    return await new Promise((resolve) => {
        const state = (name, {wait, code} = {}) => {
            told.push([name, code, wait].filter((value) => value !== undefined).join(' '));
            if (name === 'stopped' || told.length === count) resolve(told);
        };
        new Reconnecting(url, {message: () => {}, state});
    });
"""


def test_client_reconnects_unless_refused(driver, chat):  # pragma: no cover
    """The client reconnects after every close code except a refusal."""
    gate = Gate(chat)
    with serving(gate.app) as server:
        tab = Tab(driver, server.http_url)
        for code in (1008, 4400, 4401, 4403, 4499):
            del gate.seen[:]
            assert tab.run_module(OUTCOMES, '/gate/%d' % code, 99) == ['connecting', 'stopped %d' % code]
            assert gate.seen == ['']
        for code in (1000, 1001, 1011, 1012, 4408, 4429, 4500):
            del gate.seen[:]
            told = tab.run_module(OUTCOMES, '/gate/%d,4403' % code, 99)
            assert told[1:] == ['waiting %d 500' % code, 'connecting', 'stopped 4403']
            assert gate.seen == ['', '']


def test_client_keeps_its_position(driver, chat):  # pragma: no cover
    """The client keeps its position until the server says that it is lost."""
    gate = Gate(chat)
    with serving(gate.app) as server:
        tab = Tab(driver, server.http_url)
        told = tab.run_module(OUTCOMES, '/gate/1013,1012,4410,1013,4403', 99)
        assert gate.seen == ['', 'p-0', 'p-0', '', 'p-3']
        assert [state for state in told if state.startswith('waiting 4410')] == [told[5]]


def test_client_waits_longer_each_time(driver, chat):  # pragma: no cover
    """The client waits longer for each attempt, for a random part of the time."""
    with serving(Gate(chat).app) as server:
        tab = Tab(driver, server.http_url)
        told = tab.run_module(OUTCOMES, '/nowhere', 12)
        assert told[1::2] == ['waiting 1006 %d' % wait for wait in (500, 1000, 2000, 4000, 5000, 5000)]


#: Those that can have the focus and whose ring is cut off, by an element that scrolls or by the edge of the window.
CUT_OFF = """
    const ring = 5, cut = [];
    for (const item of document.querySelectorAll('input, button:enabled, a, [tabindex]')) {
        if (!item.getClientRects().length) continue;
        item.scrollIntoView({block: 'nearest'});
        const box = item.getBoundingClientRect();
        let bounds = [0, 0, innerWidth, innerHeight];
        for (let parent = item.parentElement; parent !== document.body; parent = parent.parentElement) {
            if (getComputedStyle(parent).overflow === 'visible') continue;
            const {left, top, right, bottom} = parent.getBoundingClientRect();
            bounds = [Math.max(bounds[0], left), Math.max(bounds[1], top),
                Math.min(bounds[2], right), Math.min(bounds[3], bottom)];
        }
        if (box.left - ring < bounds[0] || box.top - ring < bounds[1] || box.right + ring > bounds[2]
            || box.bottom + ring > bounds[3]) cut.push(item.id || item.textContent);
    }
    return cut;
"""


@pytest.mark.parametrize('width, height', [(1280, 800), (390, 844)])
def test_no_focus_ring_is_cut_off(ann, server, width, height):  # pragma: no cover
    resize(ann.driver, width, height)
    assert ann.run(CUT_OFF) == []
    ann.join('Ann', 'test')
    assert ann.run(CUT_OFF) == []
    ann.find('#change').click()
    assert ann.run(CUT_OFF) == []
    assert ann.run('return document.documentElement.scrollWidth <= innerWidth')


def test_page_loads_only_local_files(ann, server):  # pragma: no cover
    """The page says that it is a demo and loads nothing from elsewhere."""
    assert ann.text('.about') == 'A demo of WebSockets for API Star: its Python, its client'
    ann.join('Ann', 'test')
    loaded = ann.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert server.http_url + '/reconnecting.js' in loaded
    assert all(url.startswith(server.http_url) for url in loaded)
    for url, kind, name in [('/source', 'plain', 'chat.py'), ('/reconnecting.js', 'javascript', 'reconnecting.js')]:
        response = requests.get(server.http_url + url, timeout=PATIENCE)
        assert response.headers['content-type'] == 'text/%s; charset=utf-8' % kind
        assert response.text == (ROOT / 'docs' / 'examples' / name).read_text(encoding='utf-8')


@needs_redis
def test_workers_share_a_room(driver, shared_redis):  # pragma: no cover
    """Four workers with one Redis serve the same room."""
    port = free_port()
    command = ['-m', 'uvicorn', '--app-dir', 'docs/examples', '--port', str(port), '--workers', '4', 'chat:app']
    with process(command, port, {'REDIS': shared_redis.url}), contextlib.ExitStack() as stack:
        ann = Tab(driver, 'http://127.0.0.1:%d' % port)
        ann.join('Ann', 'test')
        server = SimpleNamespace(ws_url='ws://127.0.0.1:%d' % port)
        names = ['Bob', 'Eve', 'Ian', 'Joe', 'Kim', 'Lea', 'Max', 'Zoe']
        peers = [stack.enter_context(joined(server, name)) for name in names]
        ann.until(lambda: ann.texts('#people li') == ['Ann (you)', *names], 'the people of all workers')
        for name, peer in zip(names, peers):
            peer.say('I am %s' % name)
        ann.until_said(*['I am %s' % name for name in names])
        ann.say('Hello all')
        for peer in peers:
            peer.until_said('Hello all')
        ann.reload()
        ann.until_state('open')
        ann.until_said(*['I am %s' % name for name in names], 'Hello all')


@needs_make
def test_workers_need_a_redis():  # pragma: no cover
    """Several workers without a Redis are refused."""
    command = ['make', '--no-print-directory', 'run', 'WORKERS=2', 'REDIS=']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.startswith('Several workers need a Redis between them: make run WORKERS=2 REDIS=')
