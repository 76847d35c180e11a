"""What holds for every test: nothing of the developer's own environment reaches a hub under test."""

import asyncio.constants
import math
import os

# Before any test module is imported: some start hubs that inherit the environment.
for _name in [name for name in os.environ if name.startswith("HUB_")]:
    del os.environ[_name]

# Asyncio's debug mode notes for each task, future and handle where it was made. Ten frames of that, the default, are a third
# of the end-to-end tests' work; the last ones say where.
asyncio.constants.DEBUG_STACK_DEPTH = 3  # type: ignore[misc]  # typeshed has it as final

import pytest  # noqa: E402 - after the environment is clean
from hypothesis import HealthCheck, settings  # noqa: E402

# Machines are shared and noisy: an example is judged by what it does, not by how long it takes.
settings.register_profile("hub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hub")

TIMEOUT_S = 120.0  # of pyproject.toml


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest begins first: else one worker would still be busy with it when the others have nothing left."""
    items.sort(key=_may_take_s, reverse=True)


def _may_take_s(item: pytest.Item) -> float:
    own = item.get_closest_marker("timeout")
    own_s = float(own.args[0]) if own is not None and own.args else TIMEOUT_S
    return max(TIMEOUT_S, own_s or math.inf)  # 0: as long as it likes
