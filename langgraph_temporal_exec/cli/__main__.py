"""Command line: the entry point of ``langgraph-temporal``, which also works without its extra."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what it lacks."""
    try:
        from .main import app
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("typer", "click", "rich"):
            raise
        sys.exit(
            f"error: langgraph-temporal needs the package {exc.name!r}, which comes with the extra "
            "`cli`: pip install 'langgraph-temporal-exec[cli]'"
        )
    app(prog_name="langgraph-temporal")


if __name__ == "__main__":
    main()
