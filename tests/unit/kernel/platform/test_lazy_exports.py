"""Packages export their names lazily, from the list in their stub."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

import kernel
from kernel.platform.lazy_exports import exported_names
from tests.unit.test_import_direction import ROOT


@pytest.mark.parametrize("package", ["kernel", "kernel.venues", "projections", "replay"])
def test_every_exported_name_exists(package: str) -> None:
    """The package has, lists and imports what its stub lists; another name is an `AttributeError`."""
    module = importlib.import_module(package)

    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
    assert dir(module) == module.__all__ == sorted(set(module.__all__))
    with pytest.raises(AttributeError, match="nonsense"):
        module.nonsense  # noqa: B018


@pytest.mark.parametrize("package", ["kernel", "kernel.venues", "projections", "replay"])
def test_the_exports_are_those_of_the_stub(package: str) -> None:
    """Names and modules are those that Python's parser finds in the stub."""
    stub = (ROOT / package.replace(".", "/") / "__init__.pyi").read_text()
    statements = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]

    assert exported_names(stub) == {alias.name: node.module for node in statements for alias in node.names}


@pytest.mark.parametrize("name", ["order_spec", "models", "errors", "safety.limit_settings", "settings"])
def test_the_kernel_exports_every_public_name(name: str) -> None:
    """Every class and function that these modules define can be imported from `kernel`, and is the same object."""
    module = importlib.import_module(f"kernel.{name}")
    tree = ast.parse(inspect.getsource(module))
    public = {
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) if node.name[0] != "_"
    }

    assert public <= set(kernel.__all__)
    assert all(getattr(kernel, item) is getattr(module, item) for item in public)


def test_importing_the_packages_imports_nothing_else() -> None:
    """`import kernel, projections, replay` loads none of their modules."""
    packages = ("kernel", "projections", "replay")
    code = "import sys, kernel.venues, projections, replay; "
    code += f"print(*(n for n in sys.modules if n.split('.')[0] in {packages}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )

    assert sorted(done.stdout.split()) == [
        "kernel", "kernel.platform", "kernel.platform.lazy_exports", "kernel.venues", "projections", "replay",
    ]  # fmt: skip
