"""What holds for every test: nothing of the developer's own environment reaches a hub under test."""

import os

# Before any test module is imported: some start hubs that inherit the environment.
for _name in [name for name in os.environ if name.startswith("HUB_")]:
    del os.environ[_name]
