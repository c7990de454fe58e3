"""A module as the worker command imports it."""

from __future__ import annotations

from tests.support.graphs import parallel

graph = parallel()
