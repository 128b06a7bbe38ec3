import types

import pytest

import apistar_ws
from apistar_ws import groups


def test_all_lists_public_members():
    """__all__ lists every public member and nothing else."""
    public = {
        name
        for name, value in vars(apistar_ws).items()
        if not name.startswith('_') and not isinstance(value, types.ModuleType)
    }
    assert apistar_ws.__all__ == sorted(apistar_ws.__all__)
    assert set(apistar_ws.__all__) == public - {'TYPE_CHECKING', 'Any'} | set(groups.__all__)


def test_groups_are_imported_on_demand():
    """The names of groups are imported on demand."""
    assert all(getattr(apistar_ws, name) is getattr(groups, name) for name in groups.__all__)
    with pytest.raises(AttributeError, match="module 'apistar_ws' has no attribute 'Room'"):
        apistar_ws.Room
