"""Fixtures of the end-to-end tests."""

from tests.support.fixtures import centre, hub, nodes, pair, store

__all__ = ["centre", "hub", "nodes", "pair", "store"]
