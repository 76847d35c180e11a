"""Fixtures of the fuzzers: an engine of one's own, and a hub."""

from tests.support.engines import own_engine
from tests.support.fixtures import hub

__all__ = ["hub", "own_engine"]
