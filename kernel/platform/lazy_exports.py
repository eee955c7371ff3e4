"""Lazy exports of a package: a name's module is imported when the name is first used.

Called by the `__init__` of packages. The names are those of the stub, `__init__.pyi`, which type checkers and editors read
too: `from kernel import Side` is typed, and `import kernel` stays cheap. Imports little itself, and no parser.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable


def lazy_exports(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return a package's `__getattr__`, `__dir__` and `__all__`, from the imports in its stub."""
    path = f"{sys.modules[package].__path__[0]}/__init__.pyi"
    with open(path, encoding="utf-8") as stub:  # noqa: PTH123 (`pathlib` costs more than the rest)
        modules = exported_names(stub.read())

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return get, lambda: sorted(modules), sorted(modules)


def exported_names(stub: str) -> dict[str, str]:
    """Return the names that a stub exports, with their modules: `from module import name as name, …`, nothing else."""
    modules = {}
    code = "".join(line.partition("#")[0].strip() + " " for line in stub.splitlines())
    for statement in code.split("from ")[1:]:
        module, _, names = statement.partition(" import ")
        for name in names.strip(" ()").split(","):
            if name := name.partition(" as ")[0].strip(" )"):
                modules[name] = module
    return modules
