"""What holds for every test: nothing of the developer's own environment reaches a hub under test."""

import os

# Before any test module is imported: some start hubs that inherit the environment.
for _name in [name for name in os.environ if name.startswith("HUB_")]:
    del os.environ[_name]

from hypothesis import HealthCheck, settings  # noqa: E402 - after the environment is clean

# Machines are shared and noisy: an example is judged by what it does, not by how long it takes.
settings.register_profile("hub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hub")
