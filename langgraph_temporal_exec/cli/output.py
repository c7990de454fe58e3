"""Command line: what a worker process tells: its log lines, and its metrics."""

from __future__ import annotations

import logging

from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from ..errors import UsageError
from ..logs import FIELDS, RunLogFilter


class _PlaceFormatter(logging.Formatter):
    """Behind each line the place in a run, where there is one: ``thread_id=42 node=answer``."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        found = ((name, getattr(record, name, None)) for name in FIELDS)
        place = [f"{name}={value}" for name, value in found if value is not None]
        return " ".join([super().formatMessage(record), *place])


def log_to_stderr() -> None:
    """Log from INFO on, records of nodes included, unless logging is set up already."""
    handler = logging.StreamHandler()
    handler.addFilter(RunLogFilter())
    handler.setFormatter(_PlaceFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def prometheus_runtime(bind: str) -> Runtime:
    """A runtime of Temporal's SDK that serves its metrics at ``http://HOST:PORT/metrics``.

    Args:
        bind: ``HOST:PORT``, the host as a number.

    Raises:
        UsageError: It is no such address, or cannot be listened at.
    """
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=bind)))
    except (RuntimeError, ValueError) as exc:
        raise UsageError(
            f"Metrics cannot be served at {bind!r}: {exc}. Give an address of this machine and a "
            "free port, such as --metrics 127.0.0.1:9464 (0.0.0.0:9464: for other machines too)."
        ) from exc
