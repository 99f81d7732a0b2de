"""Fixtures of the fault tests."""

from tests.faults.fixtures import ceph, edge_environment, promise  # noqa: F401
