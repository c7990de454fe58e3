"""Who may import whom: the layering table of the architecture and the checker that reads it.

Every module belongs to the layer with the longest matching prefix in ``LAYERS``; a module in no
layer fails. An import inside a function or under ``TYPE_CHECKING`` counts like any other: moving
an import does not move a dependency. Only the package's lazy ``__init__`` may name the rest of
the package there.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

PACKAGE = "langgraph_temporal_exec"

# What the first line of every module's docstring starts with.
SIDES = frozenset(
    {
        "Public API:",
        "Shared:",
        "Shared wire:",
        "Workflow side:",
        "Caller side:",
        "Worker side:",
        "LangGraph seam:",
        "Command line:",
        "Studio:",
        "Errors:",
        "Options:",
    }
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What the modules below ``name`` may import, besides the standard library and each other."""

    name: str  # dotted module prefix inside the package; "" is the package's __init__
    ours: frozenset[str] = frozenset()  # names of layers
    third_party: frozenset[str] = frozenset()  # dotted module prefixes
    banned: frozenset[str] = frozenset()  # standard library modules it must do without
    sides: frozenset[str] = SIDES
    private_langgraph: bool = False


def _layer(
    name: str,
    *,
    ours: Iterable[str] = (),
    third_party: Iterable[str] = (),
    banned: Iterable[str] = (),
    side: str | None = None,
    private_langgraph: bool = False,
) -> Layer:
    return Layer(
        name=name,
        ours=frozenset(ours),
        third_party=frozenset(third_party),
        banned=frozenset(banned),
        sides=SIDES if side is None else frozenset({side}),
        private_langgraph=private_langgraph,
    )


# Where LangGraph's own types are handled; the rest of a layer's work needs no LangGraph.
CHECKPOINTS = {"langgraph.checkpoint"}
LIBRARIES = {"langgraph", "langchain_core", "temporalio"}
# Where the pieces are put together; nobody imports these but they themselves.
COMPOSITION_ROOTS = {
    "saver",
    "checkpoints",
    "sync",
    "listing",
    "maintenance",
    "local",
    "runs",
    "references",
    "studio",
    "cli",
}
# The same history must replay to the same commands: no clock and no randomness but Temporal's.
INDETERMINATE = {"random", "secrets", "time"}
# Pure: the same code folds a fetched history and runs in property tests without a server.
IMPURE = {"asyncio", "datetime", "uuid", *INDETERMINATE}

_INNER = [
    _layer("errors", side="Errors:"),
    _layer("options", ours={"errors"}, side="Options:"),
    _layer("protocol", third_party={"msgpack"}, banned=IMPURE, side="Shared wire:"),
    _layer("known", side="Shared:"),
    _layer("_exits", ours={"errors"}, side="Shared:"),
    _layer("_native", third_party={"temporalio"}, side="Shared:"),
    _layer("_threads", ours={"_native"}, side="Shared:"),
    _layer("_stream", third_party={"langgraph.types"}, side="Shared:"),
    # -- workflows
    _layer("workflow.effects", ours={"protocol"}, banned=IMPURE, side="Workflow side:"),
    _layer(
        "workflow.log_state",
        ours={"protocol", "workflow.effects"},
        banned=IMPURE,
        side="Workflow side:",
    ),
    _layer("workflow.outcomes", ours={"protocol"}, banned=IMPURE, side="Workflow side:"),
    _layer(
        "workflow.thread_state",
        ours={"protocol", "workflow.effects", "workflow.log_state", "workflow.outcomes"},
        banned=IMPURE,
        side="Workflow side:",
    ),
    _layer(
        "workflow",
        ours={"protocol", "workflow.effects", "workflow.log_state", "workflow.thread_state"},
        third_party={"temporalio"},
        banned=INDETERMINATE,
        side="Workflow side:",
    ),
    # The one workflow that the caller's process hosts, and the table it delivers to.
    _layer(
        "workflow.mailbox",
        ours={"protocol", "workflow.mailbox_sinks"},
        third_party={"temporalio"},
        banned=INDETERMINATE,
        side="Workflow side:",
    ),
    _layer("workflow.mailbox_sinks", ours={"protocol"}, side="Caller side:"),
    # -- LangGraph, and its values as bytes
    _layer("_paused", side="Shared:"),
    _layer("_seam", third_party={"langchain_core"}, side="LangGraph seam:"),
    _layer(
        "_langgraph",
        ours={"_exits", "_paused", "_seam", "errors"},
        third_party={"langgraph", "langchain_core"},
        side="LangGraph seam:",
        private_langgraph=True,
    ),
    _layer(
        "_serde",
        ours={"errors", "protocol"},
        third_party={*CHECKPOINTS, "langchain_core"},
        side="Shared:",
    ),
    _layer("_loaded", third_party={"pydantic"}, side="Shared:"),
    _layer(
        "_exact",
        ours={"_loaded", "_remote_errors", "_serde", "errors", "protocol"},
        third_party={
            *(*CHECKPOINTS, "langchain_core", "langgraph.callbacks", "langgraph.types"),
            *("pydantic", "pydantic_core"),
        },
        side="Shared:",
    ),
    _layer("_callbacks", third_party={"langchain_core", "langgraph.callbacks"}, side="Shared:"),
    _layer(
        "record",
        ours={"errors", "_exact", "_serde"},
        third_party={*CHECKPOINTS, "langchain_core"},
        side="Shared:",
    ),
    _layer(
        "_remote_errors",
        ours={"errors", "protocol"},
        third_party={"msgpack", "pydantic_core"},
        side="Shared:",
    ),
    # -- what is stored, and how it is read
    _layer(
        "transport",
        ours={"errors", "options", "protocol"},
        third_party={"temporalio"},
        side="Shared:",
    ),
    _layer("blobs", ours={"errors", "protocol"}, third_party={"temporalio"}, side="Shared:"),
    # The one module outside `workflow/` that runs the thread's state machine.
    _layer(
        "history",
        ours={"_threads", "errors", "protocol", "workflow.thread_state"},
        third_party={"temporalio"},
        side="Shared:",
    ),
    _layer("timings", ours={"protocol"}, third_party={"temporalio"}, side="Shared:"),
    _layer("resolver", ours={"blobs", "protocol"}, side="Shared:"),
    _layer(
        "replica",
        ours={"blobs", "errors", "protocol", "resolver"},
        third_party=CHECKPOINTS,
        side="Shared:",
    ),
    _layer("replicas", ours={"blobs", "replica"}, side="Shared:"),
    _layer(
        "reader",
        ours={
            *("_serde", "blobs", "errors", "history", "protocol", "replica", "resolver"),
            "transport",
        },
        third_party=CHECKPOINTS,
        side="Shared:",
    ),
    # What both sides say about a run, and users' handlers say about nodes.
    _layer("logs", ours={"_langgraph"}, third_party={"langgraph.config"}, side="Public API:"),
    # -- the two sides
    _layer(
        "caller",
        ours={
            *(
                "_callbacks",
                "_exact",
                "_exits",
                "_langgraph",
                "_remote_errors",
                "_serde",
                "_stream",
            ),
            *("_threads", "blobs", "errors", "known", "logs", "options", "protocol", "record"),
            *("transport", "workflow.mailbox", "workflow.mailbox_sinks"),
        },
        third_party=LIBRARIES,
        side="Caller side:",
    ),
    # Moves opaque bytes about: it must never need a value of LangGraph's.
    _layer(
        "worker.upkeep",
        ours={"blobs", "protocol", "reader", "resolver", "transport"},
        third_party={"temporalio"},
        side="Worker side:",
    ),
    _layer(
        "worker",
        ours={
            *(
                "_callbacks",
                "_exact",
                "_exits",
                "_langgraph",
                "_remote_errors",
                "_serde",
                "_stream",
            ),
            *(
                "_threads",
                "blobs",
                "errors",
                "known",
                "logs",
                "options",
                "protocol",
                "reader",
                "record",
                "replica",
                "transport",
                "worker.upkeep",
            ),
            "workflow",
        },
        third_party=LIBRARIES,
        side="Worker side:",
    ),
    # -- the public API
    _layer(
        "deadline",
        ours={"_langgraph", "errors", "protocol"},
        third_party={"langgraph.config", "langgraph.errors", "langgraph.types"},
        side="Public API:",
    ),
    _layer("idempotency", ours={"errors"}, third_party={"langgraph.config"}, side="Public API:"),
    _layer(
        "runs",
        ours={
            *("_exact", "_exits", "_langgraph", "caller", "errors", "protocol", "reader"),
            *("replica", "transport"),
        },
        third_party={*CHECKPOINTS, "langchain_core", "temporalio"},
        side="Public API:",
    ),
    _layer(
        "maintenance",
        ours={"blobs", "errors", "options", "protocol", "reader", "replica", "transport"},
        third_party={"langchain_core", "temporalio"},
        side="Public API:",
    ),
    _layer(
        "listing",
        ours={"_langgraph", "errors", "maintenance", "protocol", "runs", "transport"},
        third_party={"langchain_core", "langgraph", "pydantic"},
        side="Public API:",
    ),
    _layer(
        "sync",
        ours={"listing", "runs"},
        third_party={*CHECKPOINTS, "langchain_core"},
        side="Public API:",
    ),
    _layer(
        "checkpoints",
        ours={
            *("_langgraph", "_serde", "blobs", "caller", "errors", "history", "known"),
            *("maintenance", "protocol", "reader", "replica", "replicas", "sync", "transport"),
            "worker",
        },
        third_party={*CHECKPOINTS, "langchain_core"},
        side="Public API:",
    ),
    _layer(
        "local",
        ours={"_native", "_threads", "errors"},
        third_party={"temporalio"},
        side="Public API:",
    ),
]
LAYERS = {
    layer.name: layer
    for layer in [
        _layer("", side="Public API:"),
        *_INNER,
        # A composition root may import the `__init__` too, for its version.
        _layer(
            "saver",
            ours={
                *("", "_langgraph", "_native", "_threads", "caller", "checkpoints", "errors"),
                *("listing", "local", "maintenance", "options", "runs", "transport", "worker"),
            },
            third_party={*CHECKPOINTS, "langchain_core", "temporalio"},
            side="Public API:",
        ),
        # LangGraph's API server; what is not ours there has no public API, and one module uses it.
        _layer(
            "connection", ours={"_native", "errors"}, third_party={"temporalio"}, side="Shared:"
        ),
        _layer("references", ours={"errors", "saver"}, side="Shared:"),
        _layer("studio.aliases", side="Studio:"),
        _layer(
            "studio.server",
            ours={"errors"},
            third_party={
                *("langchain_core", "langgraph.types", "langgraph_api", "langgraph_runtime_inmem"),
            },
            side="Studio:",
            private_langgraph=True,
        ),
        _layer(
            "studio",
            ours={
                *("_langgraph", "caller", "connection", "errors", "listing", "maintenance"),
                *("references", "saver", "studio.aliases", "studio.server", "timings"),
            },
            third_party={
                *(*CHECKPOINTS, "langchain_core", "langgraph.graph.message", "langgraph.types"),
                *("starlette", "temporalio"),
            },
            side="Studio:",
        ),
        _layer(
            "cli",
            ours={
                *("", "_threads", "connection", "errors", "listing", "local", "logs", "options"),
                *("references", "saver"),
            },
            third_party={"temporalio", "typer", "rich"},
            side="Command line:",
        ),
    ]
}


class Scope(Enum):
    """When an import statement runs."""

    IMPORT = auto()  # when the module is imported
    TYPES = auto()  # never: under ``if TYPE_CHECKING``
    CALL = auto()  # when a function is called


@dataclass(frozen=True, kw_only=True)
class Import:
    line: int
    module: str  # absolute, dotted
    name: str | None  # of ``from module import name``
    scope: Scope

    @property
    def dotted(self) -> str:
        return self.module if self.name is None else f"{self.module}.{self.name}"


class _Collector(ast.NodeVisitor):
    """All imports of a module, also those by ``import_module("...")``, and private names used."""

    def __init__(self, package: str) -> None:
        self.imports: list[Import] = []
        self.private: list[tuple[int, str]] = []
        self._package = package  # what relative imports start from
        self._scope = Scope.IMPORT
        self._bound: dict[str, str] = {}  # local name -> what it was imported from

    def _in_scope(self, scope: Scope, nodes: Iterable[ast.AST]) -> None:
        # Code that never runs stays so inside a function.
        outer, self._scope = self._scope, self._scope if self._scope is Scope.TYPES else scope
        for node in nodes:
            self.visit(node)
        self._scope = outer

    def _add(self, node: ast.AST, module: str, name: str | None = None) -> None:
        line = getattr(node, "lineno", 0)
        self.imports.append(Import(line=line, module=module, name=name, scope=self._scope))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._in_scope(Scope.CALL, ast.iter_child_nodes(node))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            self._in_scope(Scope.TYPES, node.body)
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(node, alias.name)
            self._bound[alias.asname or alias.name.partition(".")[0]] = alias.name

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._package.split(".")
        if node.level:
            base = base[: len(base) - node.level + 1]
            module = ".".join([*base, *([node.module] if node.module else [])])
        else:
            module = node.module or ""
        for alias in node.names:
            self._add(node, module, alias.name)
            self._bound[alias.asname or alias.name] = f"{module}.{alias.name}"

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        match node.args:
            case [ast.Constant(value=str(module)), *_] if called in {"import_module", "__import__"}:
                self._add(node, module)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and re.fullmatch(r"[\w.]+", node.value):
            # Config keys such as "__pregel_call" are private too, whoever spells them.
            if node.value.startswith("__pregel_"):
                self.private.append((node.lineno, node.value))
            self._note_private(node.lineno, node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = ast.unparse(node)
        root, _, rest = chain.partition(".")
        if root in self._bound and re.fullmatch(r"[\w.]+", rest):
            self._note_private(node.lineno, f"{self._bound[root]}.{rest}")
        self.generic_visit(node)

    def _note_private(self, line: int, dotted: str) -> None:
        if is_private_langgraph(dotted):
            self.private.append((line, dotted))


def is_private_langgraph(dotted: str) -> bool:
    """Whether a dotted name goes through a private part of a LangGraph distribution."""
    root, *rest = dotted.split(".")
    if root == PACKAGE or not root.startswith("langgraph"):
        return False
    return any(part.startswith("_") and not part.endswith("__") for part in rest)


def module_name(path: str) -> str:
    """Dotted name, inside the package, of a path relative to it; "" for its ``__init__``."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> Layer | None:
    """The layer of a module of ours, or ``None``."""
    parts = module.split(".") if module else [""]
    for end in range(len(parts), 0, -1):
        if layer := LAYERS.get(".".join(parts[:end])):
            return layer
    return None


def _is_below(dotted: str, prefix: str) -> bool:
    return dotted == prefix or dotted.startswith(prefix + ".")


def _our_module(imported: Import, modules: frozenset[str]) -> str | None:
    """Which module of ours an import loads; ``None`` when it is not one of ours."""
    if not _is_below(imported.module, PACKAGE):
        return None
    for dotted in (imported.dotted, imported.module):
        inside = dotted.removeprefix(PACKAGE).removeprefix(".")
        if inside in modules:
            return inside
    return inside


def _import_violation(layer: Layer, imported: Import, modules: frozenset[str]) -> str | None:
    """Why a layer must not have an import, or ``None``."""
    ours = _our_module(imported, modules)
    if ours is not None:
        if layer.name == "":
            if imported.scope is not Scope.IMPORT:
                return None
            return f"imports {ours or PACKAGE} eagerly; the package must be lazy"
        target = layer_of(ours)
        if target is None or (target is not layer and target.name not in layer.ours):
            return f"layer `{layer.name}` must not import {PACKAGE}.{ours}".rstrip(".")
        return None
    root = imported.module.partition(".")[0]
    if root in sys.stdlib_module_names:
        if root in layer.banned:
            return f"layer `{layer.name}` must do without {root}"
        return None
    if not any(
        _is_below(dotted, allowed)
        for dotted in (imported.module, imported.dotted)
        for allowed in layer.third_party
    ):
        return f"layer `{layer.name}` must not import {imported.dotted}"
    return None


def check_module(path: str, source: str, modules: frozenset[str]) -> Iterator[str]:
    """Everything wrong with one module, as ``path:line: reason``.

    Args:
        path: Relative to the package.
        source: Its text.
        modules: All modules of the package, to tell ``from . import module`` from a name.
    """
    name = module_name(path)
    layer = layer_of(name)
    if layer is None:
        yield f"{path}:1: in no layer; add it to the table in {Path(__file__).name}"
        return
    tree = ast.parse(source, path)
    docstring = ast.get_docstring(tree) or ""
    if not docstring.startswith(tuple(layer.sides)):
        yield f"{path}:1: the docstring must start with {' or '.join(sorted(layer.sides))}"
    is_package = path.endswith("__init__.py")
    parent = name if is_package else name.rpartition(".")[0]
    collector = _Collector(f"{PACKAGE}.{parent}".rstrip("."))
    collector.visit(tree)
    for imported in collector.imports:
        if reason := _import_violation(layer, imported, modules):
            yield f"{path}:{imported.line}: {reason}"
    if not layer.private_langgraph:
        private = {(i.line, i.dotted) for i in collector.imports if is_private_langgraph(i.dotted)}
        for line, dotted in sorted(private.union(collector.private)):
            yield f"{path}:{line}: {dotted} is private to LangGraph; only `_langgraph` may use it"


def check_tree(package: Path) -> list[str]:
    """Everything wrong with a package directory."""
    sources = {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(package.rglob("*.py"))
    }
    modules = frozenset(map(module_name, sources))
    return [
        violation
        for path, source in sources.items()
        for violation in check_module(path, source, modules)
    ]
