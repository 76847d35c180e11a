"""Fixtures of the contract tests: real engines, and keys of one's own."""

from tests.support.bucket import s3_endpoint
from tests.support.engines import _engines_end, cluster, engines, keys, own_engine, valkey

__all__ = ["_engines_end", "cluster", "engines", "keys", "own_engine", "s3_endpoint", "valkey"]
