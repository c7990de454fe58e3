"""Who may import whom: the layering table of the architecture and the checker that reads it.

Every module belongs to the layer with the longest matching prefix of ``Layer.modules``; a module
in no layer fails. An import inside a function or under ``TYPE_CHECKING`` counts like any other:
moving an import does not move a dependency. Only the package's lazy ``__init__`` may name the rest
of the package there.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
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
    """What the modules of a layer may import, besides the standard library and each other."""

    name: str  # for people, and for ``ours`` of others; "" is the package's __init__
    modules: frozenset[str]  # dotted prefixes inside the package
    ours: frozenset[str] = frozenset()  # names of layers
    third_party: frozenset[str] = frozenset()  # dotted module prefixes
    banned: frozenset[str] = frozenset()  # standard library modules it must do without
    sides: frozenset[str] = SIDES
    private_of: frozenset[str] = frozenset()  # distributions whose private names it may use
    wire: bool = False  # repeats on purpose what others must not: workflows import no LangGraph


def _layer(
    name: str,
    *,
    modules: Iterable[str] | None = None,
    ours: Iterable[str] = (),
    third_party: Iterable[str] = (),
    banned: Iterable[str] = (),
    side: str | None = None,
    private_of: Iterable[str] = (),
    wire: bool = False,
) -> Layer:
    return Layer(
        name=name,
        modules=frozenset({name} if modules is None else modules),
        ours=frozenset(ours),
        third_party=frozenset(third_party),
        banned=frozenset(banned),
        sides=SIDES if side is None else frozenset(re.findall(r"[^:]+:", side.replace(": ", ":"))),
        private_of=frozenset(private_of),
        wire=wire,
    )


# Where LangGraph's own types are handled; the rest of a layer's work needs no LangGraph.
CHECKPOINTS = {"langgraph.checkpoint"}
LIBRARIES = {"langgraph", "langchain_core", "temporalio"}
# Where the pieces are put together; nobody imports these but they themselves.
COMPOSITION_ROOTS = {"saver", "studio", "cli"}
# LangGraph's API server.
API_SERVER = {"langgraph_api", "langgraph_runtime_inmem"}
# The same history must replay to the same commands: no clock and no randomness but Temporal's.
INDETERMINATE = {"random", "secrets", "time"}
# Nor by a name of a module that is allowed. Workers pass these modules through Temporal's sandbox,
# which would refuse them as well (`langgraph_temporal_exec/_sandbox.py`).
CLOCKS = {
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
    *("uuid.uuid1", "uuid.uuid4", "os.environ", "os.urandom"),
}
# Pure: the same code folds a fetched history and runs in property tests without a server.
IMPURE = {"asyncio", "datetime", "uuid", *INDETERMINATE}

_INNER = [
    _layer("errors", modules={"errors", "options"}, side="Errors: Options:"),
    _layer("protocol", third_party={"msgpack"}, banned=IMPURE, side="Shared wire:", wire=True),
    # Event loops, the native side of temporalio, RPCs: what knows nothing of threads and graphs.
    _layer(
        "foundation",
        modules={"_exits", "_native", "_loops", "_sandbox", "storage.rpc"},
        ours={"errors", "protocol"},
        third_party={"temporalio"},
        side="Shared:",
    ),
    # -- workflows: the thread as a state machine, and the shells that perform what it decides
    _layer(
        "workflow.core",
        modules={"workflow.core", "workflow.patches"},
        ours={"protocol"},
        banned=IMPURE,
        side="Workflow side:",
    ),
    _layer(
        "workflow",
        ours={"protocol", "workflow.core"},
        third_party={"temporalio"},
        banned=INDETERMINATE,
        side="Workflow side:",
    ),
    # The one workflow that the caller's process hosts, and the table it delivers to.
    _layer(
        "workflow.mailbox",
        modules={"workflow.mailbox", "workflow.mailbox_sinks"},
        ours={"protocol"},
        third_party={"temporalio"},
        banned=INDETERMINATE,
    ),
    # -- LangGraph's private parts, and its values as bytes
    _layer(
        "seam.langchain",
        ours={"errors", "foundation"},
        third_party={"langchain_core"},
        side="LangGraph seam:",
        private_of={"langchain_core"},
    ),
    _layer(
        "seam.private",
        ours={"errors", "foundation", "protocol"},
        third_party={"langgraph", "langchain_core"},
        side="LangGraph seam:",
        private_of={"langgraph"},
    ),
    # And what nodes of users call.
    _layer(
        "seam",
        modules={"seam", "logs", "idempotency", "interrupts"},
        ours={"errors", "foundation", "protocol", "seam.langchain", "seam.private"},
        third_party={"langgraph", "langchain_core"},
    ),
    _layer(
        "values",
        ours={"errors", "foundation", "protocol", "seam.langchain", "seam.private"},
        third_party={
            *(*CHECKPOINTS, "langchain_core", "langgraph.callbacks", "langgraph.types"),
            *("msgpack", "pydantic", "pydantic_core"),
        },
        side="Shared:",
    ),
    # -- what is stored, and how it is read; `history` runs the thread's state machine
    _layer(
        "storage",
        ours={"errors", "foundation", "protocol", "seam.private", "values", "workflow.core"},
        third_party={*CHECKPOINTS, "langchain_core", "temporalio"},
        side="Shared:",
    ),
    # The mailbox of a process: of callers for streams, of workers for tasks that others run.
    _layer(
        "caller.hub",
        ours={"errors", "foundation", "protocol", "storage", "workflow.mailbox"},
        third_party={"temporalio"},
        side="Shared:",
    ),
    # -- the two sides
    _layer(
        "caller",
        ours={
            *(
                "errors",
                "foundation",
                "protocol",
                "seam",
                "seam.langchain",
                "seam.private",
                "storage",
            ),
            *("caller.hub", "values", "workflow.mailbox"),
        },
        third_party=LIBRARIES,
        side="Caller side:",
    ),
    # Moves opaque bytes about: it must never need a value of LangGraph's.
    _layer(
        "worker.upkeep",
        modules={"worker.upkeep", "worker.shelving"},
        ours={"errors", "foundation", "protocol", "storage"},
        third_party={"temporalio"},
        side="Worker side:",
    ),
    _layer(
        "worker",
        ours={
            *(
                "errors",
                "foundation",
                "protocol",
                "seam",
                "seam.langchain",
                "seam.private",
                "storage",
            ),
            *("caller.hub", "values", "worker.upkeep", "workflow", "workflow.mailbox"),
        },
        third_party=LIBRARIES,
        side="Worker side:",
    ),
]
LAYERS = {
    layer.name: layer
    for layer in [
        _layer("", side="Public API:"),
        *_INNER,
        # Composition roots may import the `__init__` too, for its version.
        _layer(
            "saver",
            modules={
                *("saver", "runs", "costs", "threads", "workers", "references", "local"),
                "connection",
            },
            ours={
                *(
                    "",
                    "caller",
                    "errors",
                    "foundation",
                    "protocol",
                    "seam",
                    "seam.private",
                    "storage",
                ),
                *("caller.hub", "values", "worker"),
            },
            third_party={*LIBRARIES, "pydantic"},
        ),
        # LangGraph's API server; what is not ours there has no public API, and one module uses it.
        _layer(
            "studio.server",
            ours={"errors", "foundation", "seam.private"},
            third_party={"langchain_core", "langgraph.types", *API_SERVER},
            side="Studio:",
            private_of=API_SERVER,
        ),
        _layer(
            "studio",
            ours={
                *("caller", "errors", "foundation", "saver", "seam", "seam.private", "storage"),
                "studio.server",
            },
            third_party={
                *(*CHECKPOINTS, "langchain_core", "langgraph.graph.message", "langgraph.types"),
                *("starlette", "temporalio"),
            },
            side="Studio:",
        ),
        _layer(
            "cli",
            ours={"", "errors", "foundation", "saver", "seam"},
            third_party={"temporalio", "typer", "rich"},
            side="Command line:",
        ),
    ]
}
_LAYER_OF = {prefix: layer for layer in LAYERS.values() for prefix in layer.modules}


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
    """All imports of a module, also those by ``import_module("...")``, and private names used.

    Private are also literals: keys such as ``"__pregel_call"``, whoever spells them.
    """

    def __init__(self, package: str) -> None:
        self.imports: list[Import] = []
        self.private: list[tuple[int, str, str]] = []  # line, what, of which distribution
        self.attributes: list[tuple[int, str]] = []  # private ones that are read
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
        if isinstance(node.value, str):
            if (root := literal_of(node.value)) is not None:
                self.private.append((node.lineno, node.value, root))
            if re.fullmatch(r"[\w.]+", node.value):
                self._note_private(node.lineno, node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = ast.unparse(node)
        root, _, rest = chain.partition(".")
        if root in self._bound and re.fullmatch(r"[\w.]+", rest):
            self._note_private(node.lineno, f"{self._bound[root]}.{rest}")
        elif is_private(node.attr):
            self.attributes.append((node.lineno, node.attr))
        self.generic_visit(node)

    def _note_private(self, line: int, dotted: str) -> None:
        if (root := private_of(dotted)) is not None:
            self.private.append((line, dotted, root))


def is_private(name: str) -> bool:
    """Whether a name is private by its form."""
    return name.startswith("_") and not name.endswith("__") and name.strip("_") != ""


def private_of(dotted: str) -> str | None:
    """Of which distribution of LangChain's a dotted name is private; ``None``: it is not."""
    root, *rest = dotted.split(".")
    if root == PACKAGE or not (root.startswith("langgraph") or root == "langchain_core"):
        return None
    return root if any(map(is_private, rest)) else None


_LITERALS = {
    "langgraph": re.compile(
        r"__(pregel_\w+|(interrupt|resume|error|error_source_node|start|end|input|previous|return"
        r"|no_writes|root|scheduled|overwrite|snapshot_bumps)__)"
        r"|(branch|join):\S*|LangGraph|counters_since_delta_snapshot"
        r"|langgraph_(node|step|triggers|path|checkpoint_ns)"
    ),
    "langchain_core": re.compile(r"ignore_\w+|_persist_run|langchain_core\.messages\."),
    "langgraph_api": re.compile(r"langgraph_auth_\w+"),
}
"""Texts that are a distribution's own, and of which a copy would go unnoticed when they change."""


def literal_of(text: str) -> str | None:
    """Of which distribution a text is a copied literal; ``None``: of none."""
    return next((root for root, form in _LITERALS.items() if form.fullmatch(text)), None)


class _Definitions(ast.NodeVisitor):
    """The private names that a module defines, as functions, classes, variables or attributes."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.names.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                self.names.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()):
                self.names.add(name)
        self.generic_visit(node)


PYTHONS_OWN = frozenset({"_replace", "_fields", "_name_", "_value_", "_getframe"})
"""Documented names of the standard library that look private."""


def defined_in(sources: Mapping[str, str]) -> frozenset[str]:
    """The private names that are ours: an object which has another one is somebody else's.

    Args:
        sources: Texts by path; those of modules that may use private names of others are left out.
    """
    found = _Definitions()
    for path, source in sources.items():
        layer = layer_of(module_name(path))
        if layer is None or not layer.private_of:
            found.visit(ast.parse(source, path))
    return frozenset(filter(is_private, found.names)) | PYTHONS_OWN


def module_name(path: str) -> str:
    """Dotted name, inside the package, of a path relative to it; "" for its ``__init__``."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> Layer | None:
    """The layer of a module of ours, or ``None``."""
    parts = module.split(".") if module else [""]
    for end in range(len(parts), 0, -1):
        if layer := _LAYER_OF.get(".".join(parts[:end])):
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


def check_module(
    path: str, source: str, modules: frozenset[str], ours: frozenset[str] | None = None
) -> Iterator[str]:
    """Everything wrong with one module, as ``path:line: reason``.

    Args:
        path: Relative to the package.
        source: Its text.
        modules: All modules of the package, to tell ``from . import module`` from a name.
        ours: All private names of the package; ``None``: those of this module.
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
    private = {
        (i.line, i.dotted, root)
        for i in collector.imports
        if (root := private_of(i.dotted)) is not None
    }
    for line, dotted, root in sorted(private.union(collector.private)):
        copied = layer.wire and literal_of(dotted) is not None
        if not copied and root not in layer.private_of:
            yield f"{path}:{line}: {dotted} is private to {root}; {_whose(root)} alone may use it"
    if layer.banned >= INDETERMINATE:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                dotted = f"{node.value.id}.{node.attr}"
                if dotted in CLOCKS:
                    yield f"{path}:{node.lineno}: {dotted} differs when a history is replayed"
    if not layer.private_of:
        ours = defined_in({path: source}) if ours is None else ours
        for line, name in collector.attributes:
            if name not in ours:
                yield f"{path}:{line}: the attribute {name} is private to somebody else"


def _whose(root: str) -> str:
    return " and ".join(n for n, layer in LAYERS.items() if root in layer.private_of) or "it"


def check_tree(package: Path) -> list[str]:
    """Everything wrong with a package directory."""
    sources = {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(package.rglob("*.py"))
    }
    modules = frozenset(map(module_name, sources))
    ours = defined_in(sources)
    return [
        violation
        for path, source in sources.items()
        for violation in check_module(path, source, modules, ours)
    ]


# -- the table of the architecture ------------------------------------------------------------


def table() -> str:
    """The layers as a Markdown table; `python -m tests.layering` writes it where it is shown."""
    rows = ["| layer | may import of this package | and of others |", "|---|---|---|"]
    for layer in sorted(LAYERS.values(), key=lambda layer: layer.name == ""):
        ours = ", ".join(f"`{name}`" for name in sorted(layer.ours - {""})) or "nothing"
        others = ", ".join(sorted(layer.third_party)) or "nothing"
        without = [("asyncio", "asyncio"), ("datetime", "clock"), ("random", "randomness")]
        banned = [word for module, word in without if module in layer.banned]
        more = f"; no {', '.join(banned)}" if banned else ""
        if layer.private_of:
            more += f"; private names of {', '.join(sorted(layer.private_of))} too"
        if not layer.name:
            ours = "everything, lazily"
        also = sorted(layer.modules - {layer.name})
        named = f"`{layer.name or '__init__'}`" + ((also and f": {', '.join(also)}") or "")
        rows.append(f"| {named} | {ours} | {others}{more} |")
    return "\n".join(rows)


ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"
HEADING = "## Who may import whom"


def documented() -> str:
    """The table that the architecture shows."""
    section = ARCHITECTURE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    return "\n".join(line for line in section.splitlines() if line.startswith("|"))


if __name__ == "__main__":
    text = ARCHITECTURE.read_text(encoding="utf-8")
    ARCHITECTURE.write_text(text.replace(documented(), table()), encoding="utf-8")
