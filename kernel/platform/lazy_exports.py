"""Lazy exports of a package: a name's module is imported when the name is first used.

Called by the `__init__` of packages. The names are those of the stub, `__init__.pyi`, which type checkers and editors read
too: `from kernel import Side` is typed, and `import kernel` stays cheap.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable


def lazy_exports(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return a package's `__getattr__`, `__dir__` and `__all__`, from the imports in its stub."""
    stub = pkgutil.get_data(package, "__init__.pyi")
    assert stub is not None, f"{package} has a stub"
    statements = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    modules = {alias.name: str(node.module) for node in statements for alias in node.names}

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return get, lambda: sorted(modules), sorted(modules)
