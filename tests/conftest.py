"""What holds for every test: nothing of the developer's own environment reaches a hub under test."""

import asyncio.constants
import os

# Before any test module is imported: some start hubs that inherit the environment.
for _name in [name for name in os.environ if name.startswith("HUB_")]:
    del os.environ[_name]

# Asyncio's debug mode notes for each task, future and handle where it was made. Ten frames of that, the default, are a third
# of the end-to-end tests' work; the last ones say where.
asyncio.constants.DEBUG_STACK_DEPTH = 3  # type: ignore[misc]  # typeshed has it as final

from hypothesis import HealthCheck, settings  # noqa: E402 - after the environment is clean

# Machines are shared and noisy: an example is judged by what it does, not by how long it takes.
settings.register_profile("hub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hub")
