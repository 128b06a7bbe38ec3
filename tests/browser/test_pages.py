"""The documentation as it is built, in a browser: nothing is cut off, wide or missing."""

import re
import subprocess
import sys

import pytest
from selenium.webdriver.support.wait import WebDriverWait

import apistar_ws
from apistar_ws.settings import SETTING_NAMES
from tests.browser.chromium import resize
from tests.needs import needs_browser, needs_sphinx
from tests.servers import PATIENCE, ROOT

DOCS = ROOT / 'docs'
SPHINX = ['-m', 'sphinx', '-W', '--keep-going', '-q', '-b', 'html']
DESKTOP, PHONE = (1280, 800), (390, 844)
CUT_OFF = """
    return [...document.querySelectorAll('pre')].filter((block) => block.scrollWidth > block.clientWidth + 1)
        .map((block) => block.textContent);
"""
LOADED = re.compile(r'<(?:script|link|img)[^>]*?(?:src|href)="(https?://[^"]+)"')
WIDTH = 'return document.documentElement.scrollWidth'
BACKGROUND = 'return getComputedStyle(document.body).backgroundColor'
UNLIKE_TEXT = """
    const inText = [...document.querySelectorAll('article p a, article dd a, article li a')];
    return inText.length > 0 && inText.every((link) => getComputedStyle(link).textDecorationLine === 'underline');
"""
#: What people look for, and the pages that have it are not the reference alone.
TERMS = ['broadcast', 'presence', 'background', 'startup', 'reconnect', 'mypy', 'gunicorn']

pytestmark = [needs_sphinx, pytest.mark.xdist_group('pages')]


@pytest.fixture(scope='module')
def html(tmp_path_factory):
    """The built pages."""
    html, trees = tmp_path_factory.mktemp('html'), tmp_path_factory.mktemp('doctrees')
    command = [sys.executable, '-W', 'ignore', *SPHINX, '-d', str(trees), str(DOCS), str(html)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * PATIENCE)
    assert done.returncode == 0, done.stderr
    return html


def names():
    return sorted(path.stem for path in DOCS.glob('*.rst'))


def test_build_has_every_public_name(html):
    """The reference as built contains every public name and every setting."""
    reference = (html / 'reference.html').read_text(encoding='utf-8')
    for name in apistar_ws.__all__:
        assert 'id="apistar_ws.%s"' % name in reference, name
    for name in SETTING_NAMES:
        assert name in reference, name


def test_code_is_copyable_and_pages_local(html):
    """Code can be copied, and no page loads anything from elsewhere."""
    guide = (html / 'guide.html').read_text(encoding='utf-8')
    assert 'copybutton.js' in guide
    for path in html.glob('*.html'):
        assert LOADED.findall(path.read_text(encoding='utf-8')) == [], path.name


@needs_browser
class TestBrowser:  # pragma: no cover
    @pytest.fixture
    def driver(self, browser):
        browser.switch_to.new_window('tab')
        yield browser
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})
        browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        browser.close()
        browser.switch_to.window(browser.window_handles[0])

    def look(self, driver, html, name, size=DESKTOP):
        resize(driver, *size)
        driver.get((html / ('%s.html' % name)).as_uri())

    def test_code_fits_a_desktop(self, driver, html):
        """No code is cut off on a desktop."""
        for name in names():
            self.look(driver, html, name)
            assert driver.execute_script(CUT_OFF) == [], name

    def test_pages_fit_every_screen(self, driver, html):
        """No page is wider than the screen."""
        for size in (DESKTOP, PHONE):
            for name in names():
                self.look(driver, html, name, size)
                assert driver.execute_script(WIDTH) <= size[0], (name, size)

    def test_links_look_like_links(self, driver, html):
        for name in ('guide', 'groups', 'recipes'):
            self.look(driver, html, name)
            assert driver.execute_script(UNLIKE_TEXT), name

    def test_dark_scheme_is_respected(self, driver, html):
        """Pages are dark where the reader prefers a dark scheme."""
        for scheme, dark in (('light', False), ('dark', True)):
            features = [{'name': 'prefers-color-scheme', 'value': scheme}]
            driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
            self.look(driver, html, 'guide')
            red, green, blue = map(int, re.findall(r'\d+', driver.execute_script(BACKGROUND))[:3])
            assert (red + green + blue < 200) is dark

    @pytest.mark.parametrize('term', TERMS)
    def test_the_search_finds(self, driver, html, term):
        self.look(driver, html, 'search')
        driver.get((html / 'search.html').as_uri() + '?q=' + term)
        found = "return document.querySelectorAll('.search li a').length"
        WebDriverWait(driver, PATIENCE, poll_frequency=0.05).until(lambda _: driver.execute_script(found), term)
