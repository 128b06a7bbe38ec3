"""The imports of the package, held against the picture in the documentation."""

import ast
import re

from tests.servers import ROOT

PACKAGE = ROOT / 'apistar_ws'


def floors():
    """Return the picture: for each module its floor, counted from the top."""
    page = (ROOT / 'docs' / 'architecture.rst').read_text(encoding='utf-8')
    picture = re.search(r'\.\. code-block:: text\n\n(.*?)\n\n``testing``', page, re.DOTALL)[1]
    return {name: number for number, line in enumerate(picture.split('\n')) for name in line.split()}


def module_name(path):
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] or parts) if parts[-1] == '__init__' else '.'.join(parts)


# A wing's own file imports nothing, unless the wing has public names.
MODULES = {
    module_name(path): path
    for path in PACKAGE.rglob('*.py')
    if path.name != '__init__.py' or 'import' in path.read_text(encoding='utf-8')
}


def imports(path):
    """Yield the modules of the package that the file at ``path`` imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('apistar_ws.'):
            yield node.module.partition('.')[2]


def test_the_picture_has_every_module():
    assert sorted(floors()) == sorted(MODULES)


def test_every_import_leads_to_a_floor_below():
    floor = floors()
    pairs = [(name, imported) for name, path in MODULES.items() for imported in imports(path)]
    upwards = [(name, imported) for name, imported in pairs if floor[imported] <= floor[name]]
    # The test client stands beside the package, and takes this one module from it.
    assert [pair for pair in upwards if pair[1] != 'types'] == []


def test_the_test_client_takes_nothing_but_types_from_the_package():
    taken = {imported for name, path in MODULES.items() if name.startswith('testing') for imported in imports(path)}
    assert {name for name in taken if not name.startswith('testing')} == {'types'}


def test_the_core_knows_neither_the_test_client_nor_the_adapters():
    extras = ('testing', 'routing.listeners', 'routing.streams', 'routing.adapters', 'compat', 'groups', 'asyncapi')
    core = {name: path for name, path in MODULES.items() if not name.startswith(extras) and name != '__init__'}
    assert [name for name, path in core.items() if any(found.startswith(extras) for found in imports(path))] == []
