"""Fixtures of the load tests' tests."""

from tests.unit.clients.conftest import hub

__all__ = ["hub"]
