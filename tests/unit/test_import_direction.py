"""The architecture as a test: layers, cycles, sizes and names. `pytest -n0 -s` on this file prints the figures.

Everything is read from the source by `ast`: an import inside a function or under `TYPE_CHECKING` counts like any other.
"""

from __future__ import annotations

import ast
import functools
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("kernel", "projections", "replay")
LAYERS: tuple[tuple[str, ...], ...] = (
    ("kernel.clock", "kernel.errors"),
    ("kernel.platform", "kernel.log.merkle", "kernel.values"),
    ("kernel.lease", "kernel.order_spec"),
    ("kernel.values.edge", "kernel.groups", "kernel.models", "kernel.safety.limit_settings"),
    ("kernel.events", "kernel.settings", "kernel.stores", "kernel.venues.base"),
    ("kernel.lifecycle.orders",),
    (
        "kernel.actions",
        "kernel.api",
        "kernel.lifecycle",
        "kernel.log.base",
        "kernel.venues.guard",
        "kernel.venues.paper.matching",
    ),
    ("kernel.limits", "kernel.log.hashing", "kernel.metrics", "kernel.plan", "kernel.safety", "kernel.venues.paper"),
    ("kernel.log.engine", "kernel.state", "kernel.subscriptions", "kernel.venues", "kernel.workqueue"),
    ("kernel.log.backends", "kernel.streams"),
    ("kernel.log.factory",),
    ("kernel.log", "kernel.commands", "kernel.reconciler"),
    ("kernel.runtime",),
    ("kernel.controller",),
    ("kernel",),
    ("projections.diff", "projections.digest", "projections.retention"),
    ("projections.folds",),
    ("projections.snapshot",),
    ("projections.state_data",),
    ("projections.state_fold",),
    ("projections.state",),
    ("projections.checkpoint", "projections.memory", "projections.sql", "projections.stores"),
    ("projections",),
    ("replay.formatting",),
    ("replay.log_access",),
    ("replay.decisions", "replay.readmodel", "replay.transparency", "replay.views"),
    ("replay.audit", "replay.histories", "replay.host", "replay.manifests", "replay.transfer"),
    ("replay.demo", "replay.operations", "replay.whatif"),
    ("replay.testing",),
    ("replay.cli",),
    ("replay",),
    ("cli",),
)
"""From the lowest layer to the highest. A module may import modules of lower layers and of its own unit, never of a higher
layer, and never of another unit in its own layer. A unit is a package or a module; the longest name that fits applies."""

MODULE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
FUNCTION_LINES_MEDIAN_MAX = 10
FOLDER_FILES_MAX = 18
PURE = (
    "kernel.groups",
    "kernel.lifecycle",
    "kernel.limits",
    "kernel.plan",
    "kernel.reconciler.attempt_resolution",
    "kernel.reconciler.decide_run",
    "kernel.reconciler.decision",
    "kernel.reconciler.run_inputs",
    "kernel.safety.heartbeat",
)
IMPURE = frozenset({"kernel.clock", "asyncio", "datetime", "logging", "os", "random", "secrets", "time", "uuid"})
HEAVY = ("psycopg", "psycopg_pool", "eventsourcing.postgres", "ccxt", "click", "rich", "starlette", "uvicorn")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the product: name to file."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {name_of(path): path for path in [*paths, ROOT / "cli.py"]}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree(name: str) -> ast.Module:
    """The parsed source of a module."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def imported(name: str) -> Iterator[str]:
    """The modules that a module imports, and `module.name` for what may be a module or a name in one."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def edges(name: str) -> frozenset[str]:
    """The product's modules that a module imports.

    `from package import module` is an import of that module; `from package import name` is an import of the package.
    """
    known = modules()
    targets = set(imported(name))
    found = targets & known.keys()
    reached = {target for target in found if not any(other.startswith(target + ".") for other in found)}
    named = {target.rpartition(".")[0] for target in targets if target not in known}
    return frozenset((reached | (named & known.keys())) - {name})


@functools.cache
def layers() -> dict[str, int]:
    return {unit: number for number, layer in enumerate(LAYERS) for unit in layer}


FACADES = frozenset({"kernel", "kernel.log", "kernel.venues", "projections", "replay"})
"""Packages whose modules are units of their own: the unit of that name is the package's `__init__` alone."""


def unit_of(name: str) -> str:
    """The longest name in `LAYERS` that is the module or a package around it."""
    fitting = [unit for unit in layers() if name == unit or (unit not in FACADES and name.startswith(f"{unit}."))]
    assert fitting, f"{name} is in no layer: add it to LAYERS"
    return max(fitting, key=len)


@pytest.mark.parametrize("name", modules())
def test_imports_go_down_the_layers(name: str) -> None:
    """No module imports from a higher layer or from a sibling unit of its own layer."""
    own = unit_of(name)
    wrong = [target for target in edges(name) if unit_of(target) != own and layers()[unit_of(target)] >= layers()[own]]
    assert wrong == []


def test_every_layer_names_something_that_exists() -> None:
    """The list of layers has no entry for a module or package that is gone."""
    assert [unit for unit in layers() if unit not in modules()] == []


def test_there_is_no_import_cycle() -> None:
    """Following imports from any module never leads back to it."""
    assert cycle() == []


def cycle() -> list[str]:
    """The first cycle of imports; empty when there is none."""
    done: set[str] = set()
    for start in modules():
        if path := walk(start, [], done):
            return path
    return []


def walk(name: str, path: list[str], done: set[str]) -> list[str]:
    if name in path:
        return [*path[path.index(name) :], name]
    if name in done:
        return []
    for target in sorted(edges(name)):
        if found := walk(target, [*path, name], done):
            return found
    done.add(name)
    return []


@pytest.mark.parametrize("name", modules())
def test_a_module_has_a_docstring_and_a_limit(name: str) -> None:
    """Every file begins with a docstring and has at most `MODULE_LINES_MAX` lines."""
    assert ast.get_docstring(tree(name))
    assert lines_of(name) <= MODULE_LINES_MAX


def lines_of(name: str) -> int:
    return len(modules()[name].read_text(encoding="utf-8").splitlines())


@functools.cache
def functions() -> dict[str, int]:
    """Every function of the product: its name to its number of lines."""
    found = {}
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                found[f"{name}:{node.name}:{node.lineno}"] = node.end_lineno - node.lineno + 1
    return found


def test_functions_are_short() -> None:
    """No function has more than `FUNCTION_LINES_MAX` lines, and half of them have at most `FUNCTION_LINES_MEDIAN_MAX`."""
    assert {name: lines for name, lines in functions().items() if lines > FUNCTION_LINES_MAX} == {}
    assert statistics.median(functions().values()) <= FUNCTION_LINES_MEDIAN_MAX


def folders() -> Counter[str]:
    """The number of modules in each folder, `__init__` left out."""
    files = (path for path in modules().values() if path.name != "__init__.py")
    return Counter(path.parent.relative_to(ROOT).as_posix() for path in files)


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    """No folder has more than `FOLDER_FILES_MAX` modules."""
    assert {folder: number for folder, number in folders().items() if number > FOLDER_FILES_MAX} == {}


def test_a_class_name_occurs_once() -> None:
    """No two classes of the product have the same name, so that a search for a name finds one class."""
    homes = defaultdict(list)
    for name in modules():
        for node in tree(name).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_the_figures_of_the_structure() -> None:
    """The figures that describe the structure are printed, and add up."""
    sizes = sorted(functions().values())
    per_package = Counter()
    for name in modules():
        per_package[name.partition(".")[0]] += lines_of(name)
    print(f"\nlines: {dict(per_package)}, together {per_package.total()}, in {len(modules())} modules")
    p90 = sizes[len(sizes) * 9 // 10]
    print(f"functions: {len(sizes)}, median {statistics.median(sizes)}, p90 {p90}, longest {sizes[-1]}")
    longest = sorted(modules(), key=lines_of)[-5:]
    print("longest modules:", ", ".join(f"{name} {lines_of(name)}" for name in longest))
    print("largest folders:", ", ".join(f"{folder} {number}" for folder, number in folders().most_common(5)))
    print("cycles:", cycle() or "none")
    assert per_package.total() == sum(lines_of(name) for name in modules())


def pure_modules() -> list[str]:
    return [name for name in modules() if any(name == core or name.startswith(core + ".") for core in PURE)]


@pytest.mark.parametrize("name", pure_modules())
def test_the_core_is_pure(name: str) -> None:
    """The decision functions import no clock, event loop, randomness or logger."""
    assert IMPURE.isdisjoint({target for full in imported(name) for target in prefixes(full)})


def prefixes(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts) + 1)}


def test_importing_the_kernel_is_cheap() -> None:
    """`import kernel` loads no database driver, no exchange library, no HTTP server and no terminal toolkit."""
    program = f"import sys, kernel; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []
