"""The imports of the package and its times, compared with the page on the architecture."""

import ast
import importlib
import re

from tests.servers import ROOT

PACKAGE = ROOT / 'apistar_ws'
PAGE = (ROOT / 'docs' / 'architecture.rst').read_text(encoding='utf-8')
EXTRAS = ('groups', 'asyncapi', 'testing', 'compat')


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] or parts) if parts[-1] == '__init__' else '.'.join(parts)


def folder_of(name):
    return name.partition('.')[0]


def imports(path):
    """Return the modules of the package that the file at ``path`` imports when it is imported itself."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return [
        node.module.partition('.')[2]
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('apistar_ws.')
    ]


IMPORTS = {module_name(path): imports(path) for path in PACKAGE.rglob('*.py')}
PICTURE = re.search(r'\.\. code-block:: text\n\n(.*?)\n\n``testing``', PAGE, re.DOTALL)[1]
FLOORS = {name: number for number, line in enumerate(PICTURE.split('\n')) for name in line.split()}
PAIRS = [(name, imported) for name, found in IMPORTS.items() for imported in found]


def test_picture_has_every_folder():
    assert sorted(FLOORS) == sorted({folder_of(name) for name in IMPORTS} - {'testing'})


def test_imports_lead_downwards():
    """A folder imports from the lines below it only."""
    between = [(name, found) for name, found in PAIRS if folder_of(name) != folder_of(found) and 'testing' not in name]
    assert [pair for pair in between if FLOORS[folder_of(pair[1])] <= FLOORS[folder_of(pair[0])]] == []


def test_no_import_circles():
    remaining = {name: set(found) for name, found in IMPORTS.items()}
    while free := [name for name, found in remaining.items() if not found & remaining.keys() - {name}]:
        for name in free:
            del remaining[name]
    assert remaining == {}


def test_testing_imports_only_types():
    taken = {found for name, found in PAIRS if folder_of(name) == 'testing' and folder_of(found) != 'testing'}
    assert taken == {'types'}


def test_core_imports_no_extras():
    core = [pair for pair in PAIRS if not pair[0].startswith((*EXTRAS, '__'))]
    assert [pair for pair in core if pair[1].startswith(EXTRAS)] == []


def test_table_has_the_times():
    """Each constant of the table is in its module, with the value that the table gives."""
    modules = {name.rpartition('.')[2]: name for name in IMPORTS}
    modules.update(engine='groups.redis.engine', connection='connection.connection', presence='groups.presence')
    table = PAGE[PAGE.index('\nTimes\n') : PAGE.index('What ends with')]
    rows = re.findall(r'   \* - (``.*``)\n     - ([\d., ]+)\n', table)
    assert len(rows) > 15
    for names, values in rows:
        module, first, *others = re.findall(r'\w+', names)
        owners = [module, *re.findall(r'(\w+)\.[A-Z]', names)[1:]]
        constants = re.findall(r'[A-Z_]{2,}', names)
        found = [
            next(value for owner in owners if (value := getattr(imported(modules[owner]), constant, None)) is not None)
            for constant in constants
        ]
        assert found == [float(value) for value in values.split(', ')], names


def imported(name):
    return importlib.import_module('apistar_ws.' + name)
