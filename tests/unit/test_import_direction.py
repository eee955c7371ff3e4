"""The house's plan holds: imports run one way and in no circle, modules stay small, the core is pure, importing is cheap.

Read from the source by `ast`: an import inside a function or under `TYPE_CHECKING` counts like any other.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("kernel", "projections", "replay", "cli")
"""Each may import those before it, and itself."""
LINES_MAX = 600
CLI_LINES_MAX = 120
PURE = (
    "kernel.lifecycle", "kernel.actions", "kernel.plan", "kernel.run_inputs", "kernel.decide_run", "kernel.decision",
    "kernel.settlement", "kernel.limits", "kernel.silence",
)  # fmt: skip
IMPURE = frozenset({"kernel.clock", "asyncio", "datetime", "logging", "os", "random", "secrets", "time", "uuid"})
HEAVY = ("psycopg", "psycopg_pool", "eventsourcing.postgres", "ccxt", "click", "rich", "starlette", "uvicorn")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the packages: name → file."""
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    cli = ROOT / "cli.py"
    return {name_of(path): path for path in [*paths, *([cli] if cli.exists() else [])]}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """What a file imports: modules, and `module.name` for what may be a module or a name in one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def edges(name: str) -> frozenset[str]:
    """The modules of the house that a module imports, itself and the packages that it is in left out.

    `from package import module` is an import of that module; `from package import name` of the package.
    """
    known = modules()
    found = set()
    for target in imported(known[name]):
        if target in known:
            found.add(target)
    reached = {target for target in found if not any(other.startswith(target + ".") for other in found)}
    named = {target.rpartition(".")[0] for target in imported(known[name]) if target not in known}
    return frozenset((reached | (named & known.keys())) - {name})


def room(name: str) -> int:
    return ROOMS.index(name.partition(".")[0])


def test_imports_run_one_way() -> None:
    """cli → replay → projections → kernel, never back."""
    assert [(name, target) for name in modules() for target in edges(name) if room(target) > room(name)] == []


def test_there_is_no_import_cycle() -> None:
    """Following imports from any module never leads back to it."""
    assert cycle() == []


def cycle() -> list[str]:
    """The first circle of imports; empty when there is none."""
    done: set[str] = set()
    for start in modules():
        path = walk(start, [], done)
        if path:
            return path
    return []


def walk(name: str, path: list[str], done: set[str]) -> list[str]:
    if name in path:
        return [*path[path.index(name) :], name]
    if name in done:
        return []
    for target in sorted(edges(name)):
        found = walk(target, [*path, name], done)
        if found:
            return found
    done.add(name)
    return []


def test_modules_stay_small() -> None:
    """A module that grows past its limit is two modules."""
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > lines_max(name)} == {}


def lines_max(name: str) -> int:
    return CLI_LINES_MAX if name == "cli" else LINES_MAX


def test_modules_open_with_what_they_are() -> None:
    """Every file begins with a docstring."""
    assert [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


def pure_modules() -> list[str]:
    return [name for name in modules() if any(name == core or name.startswith(core + ".") for core in PURE)]


@pytest.mark.parametrize("name", pure_modules())
def test_the_core_is_pure(name: str) -> None:
    """Lifecycle, plan and settlement reach no clock, no loop, no randomness and no logger."""
    assert IMPURE.isdisjoint({target for full in imported(modules()[name]) for target in prefixes(full)})


def prefixes(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:length]) for length in range(1, len(parts) + 1)}


def test_importing_the_kernel_is_cheap() -> None:
    """`import kernel` loads no database driver, no exchange library and no terminal toolkit."""
    program = f"import sys, kernel; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=240
    )
    assert done.stdout.split() == []
