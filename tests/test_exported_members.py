import types

import apistar_ws


def test_all_names_every_public_member_and_nothing_else():
    public = {
        name
        for name, value in vars(apistar_ws).items()
        if not name.startswith('_') and not isinstance(value, types.ModuleType)
    }
    assert apistar_ws.__all__ == sorted(apistar_ws.__all__)
    assert set(apistar_ws.__all__) == public
