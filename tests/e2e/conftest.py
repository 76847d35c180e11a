"""Fixtures of the end-to-end tests."""

from tests.support.fixtures import centre, hasty, hasty_hub, hub, nodes, pair, store
from tests.support.provider import shop, shops

__all__ = ["centre", "hasty", "hasty_hub", "hub", "nodes", "pair", "shop", "shops", "store"]
