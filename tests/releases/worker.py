"""The command line of some release of the package: ``python -m tests.releases.worker``."""

from __future__ import annotations

import os
from pathlib import Path

import langgraph_temporal_exec


def check_release() -> None:
    """Raise unless this process has the release that its test means."""
    loaded = Path(str(langgraph_temporal_exec.__file__)).parents[1]
    if loaded != Path(os.environ["RELEASE"]):
        raise RuntimeError(f"loaded from {loaded}, not {os.environ['RELEASE']}")


if __name__ == "__main__":
    from langgraph_temporal_exec.cli.__main__ import main

    check_release()
    main()
