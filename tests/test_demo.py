"""The chat demo in a real browser, served by a real uvicorn."""

import importlib.util
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.servers import ROOT, serving

#: Seconds for the page to show what a test waits for; far more than it takes.
PATIENCE = 20.0
CHROME = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
CHROMEDRIVER = shutil.which('chromedriver')
OPTIONS = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]

pytestmark = pytest.mark.skipif(
    not (CHROME and CHROMEDRIVER) and not os.environ.get('REQUIRE_BROWSER'),
    reason='The demo is tested in Chromium: install chromium and chromedriver.',
)


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

    def until(self, condition, what):
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.05).until(lambda _: condition(), what)

    def until_shown(self, selector, text):
        self.until(lambda: text in self.text(selector), '%r in %s' % (text, selector))

    def until_state(self, state):
        self.until(lambda: self.find('body').get_attribute('data-state') == state, 'the state %r' % state)

    def join(self, name, room):
        for selector, text in [('#name', name), ('#room', room)]:
            self.find(selector).clear()
            self.find(selector).send_keys(text)
        self.find('#join').click()
        self.until_state('open')
        self.until_shown('#people', '%s (you)' % name)

    def say(self, text):
        self.find('#text').send_keys(text, Keys.ENTER)


@pytest.fixture
def chat():  # pragma: no cover
    """The module of the demo, with no one in its rooms."""
    spec = importlib.util.spec_from_file_location('chat', ROOT / 'docs' / 'examples' / 'chat.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(chat):  # pragma: no cover
    with serving(chat.app) as running:
        yield running


@pytest.fixture
def driver(tmp_path, monkeypatch):  # pragma: no cover
    assert CHROME and CHROMEDRIVER, 'REQUIRE_BROWSER is set, but chromium or chromedriver is missing.'
    # Selenium would ask the proxy of the environment for its own driver.
    monkeypatch.setenv('no_proxy', '*')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    for option in [*OPTIONS, '--user-data-dir=%s' % (tmp_path / 'profile')]:
        options.add_argument(option)
    with webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER)) as running:
        yield running


@pytest.fixture
def tabs(driver, server):  # pragma: no cover
    """Ann's tab and Bob's, both in the room ``test``."""
    ann, bob = Tab(driver, server.http_url), Tab(driver, server.http_url)
    ann.join('Ann', 'test')
    bob.join('Bob', 'test')
    ann.until_shown('#people', 'Bob')
    return ann, bob


def test_what_one_person_types_everybody_in_the_room_reads_as_text(tabs):  # pragma: no cover
    ann, bob = tabs
    ann.say('Hello <b>Bob</b>')
    bob.until_shown('#log', 'Hello <b>Bob</b>')
    assert bob.text('.message .author') == 'Ann'
    assert bob.find('.message').get_attribute('class') == 'message'
    ann.until_shown('.message.own', 'Hello <b>Bob</b>')
    assert ann.value('#text') == ''


def test_a_refused_message_is_explained_beside_the_input_and_given_back(tabs):  # pragma: no cover
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


def test_a_room_is_switched_by_the_form_or_the_address_and_kept_on_reload(tabs, server):  # pragma: no cover
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


def test_a_page_says_that_the_connection_is_lost_and_restores_it_by_itself(driver, chat):  # pragma: no cover
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
