"""The hooks into LangGraph: verified, idempotent, removable; drift is named."""

from __future__ import annotations

import langgraph.pregel._loop as loop
import langgraph.pregel._runner as runner
import pytest
from langgraph.pregel import Pregel

from langgraph_temporal_exec import UnsupportedLangGraphError
from langgraph_temporal_exec.seam import hooks
from tests.support.graphs import countdown

pytestmark = pytest.mark.compat


@pytest.fixture
def uninstalled():
    hooks.uninstall()
    yield
    hooks.uninstall()
    # As importing the package does: what runs next in this process relies on it.
    hooks.install()


def test_the_installed_langgraph_is_supported(uninstalled: None) -> None:
    hooks.verify()


def test_install_is_idempotent_and_removable(uninstalled: None) -> None:
    before = (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first)
    hooks.install()
    hooked = (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first)
    assert all(a is not b for a, b in zip(before, hooked, strict=True))
    hooks.install()
    assert (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first) == hooked
    hooks.verify()
    hooks.uninstall()
    assert (runner.arun_with_retry, Pregel.astream, loop.PregelLoop._first) == before


@pytest.mark.parametrize(
    ("owner", "name"), [(runner, "run_with_retry"), (Pregel, "stream"), (Pregel, "_defaults")]
)
def test_a_missing_symbol_is_named(
    uninstalled: None, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(
        UnsupportedLangGraphError, match=rf"{name} (is missing|has no).*langgraph>=1\.2\.13"
    ):
        hooks.install()
    assert runner.arun_with_retry.__module__ == "langgraph.pregel._retry"


def test_a_changed_signature_is_named(uninstalled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "arun_with_retry", lambda task, retry_policy: None)
    with pytest.raises(UnsupportedLangGraphError, match="no parameter configurable"):
        hooks.install()


async def test_graphs_without_our_saver_are_untouched(uninstalled: None) -> None:
    hooks.install()
    assert await countdown().ainvoke({"n": 3}) == {"n": 0}
