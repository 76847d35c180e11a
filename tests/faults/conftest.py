"""Fixtures of the fault tests."""

from tests.support.fixtures import centre, hasty, hasty_hub, hub, nodes, pair, store

__all__ = ["centre", "hasty", "hasty_hub", "hub", "nodes", "pair", "store"]
