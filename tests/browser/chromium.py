"""The browser of the tests: a real Chromium."""

import contextlib
from typing import Any, Iterator

import pytest
from selenium import webdriver

from tests.needs import CHROMEDRIVER, CHROMIUM

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


@contextlib.contextmanager
def chromium(profile: Any) -> Iterator[webdriver.Chrome]:  # pragma: no cover
    """Supply a browser with a profile of its own."""
    assert CHROMIUM and CHROMEDRIVER, 'Everything is required, but chromium or chromedriver is missing.'
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in [*OPTIONS, '--user-data-dir=%s' % profile]:
        options.add_argument(option)
    with pytest.MonkeyPatch.context() as patch:
        # Selenium would ask the proxy of the environment for its own driver.
        patch.setenv('no_proxy', '*')
        with webdriver.Chrome(options, webdriver.ChromeService(CHROMEDRIVER)) as running:
            yield running


def resize(driver: Any, width: int, height: int) -> None:  # pragma: no cover
    """Make the window as large as a screen; narrow ones are phones."""
    size = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': width < 500}
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
