"""Where and with what was measured."""

import datetime
import os
import pathlib
import platform
from importlib import metadata
from typing import List, NamedTuple, Tuple

import apistar_ws

PACKAGES = (
    'apistar', 'starlette', 'fastapi', 'litestar', 'flama', 'uvicorn', 'websockets', 'httptools', 'redis',
    'channels_redis',
)  # fmt: skip


class Environment(NamedTuple):
    """The machine, the versions and the date."""

    date: str
    processor: str
    cores: int
    system: str
    python: str
    #: Processes that wanted to run in the minute before, on average.
    load: str
    versions: List[Tuple[str, str]]


def processor() -> str:
    """Return the model of the processor."""
    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().split('\n')
    except OSError:
        lines = []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return models[0] if models else platform.processor() or platform.machine()


def version(package: str) -> str:
    """Return the version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return 'not installed'


def load_average() -> str:
    """Return how busy the machine was before."""
    try:
        return '%.1f' % os.getloadavg()[0]
    except (AttributeError, OSError):
        return 'unknown'


def look() -> Environment:
    """Return what this process runs in."""
    return Environment(
        datetime.date.today().isoformat(),
        processor(),
        os.cpu_count() or 1,
        '%s %s' % (platform.system(), platform.machine()),
        '%s %s' % (platform.python_implementation(), platform.python_version()),
        load_average(),
        [('apistar-ws', apistar_ws.__version__), *[(package, version(package)) for package in PACKAGES]],
    )
