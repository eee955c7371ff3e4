"""Every kind of finding has a remedy, and one function raises all findings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kernel.lifecycle.findings import raised
from kernel.lifecycle.remediation import REMEDIATION, TO_DO
from kernel.models import FindingKind

KERNEL = Path(__file__).parents[4] / "kernel"


@pytest.mark.parametrize("kind", FindingKind)
def test_every_kind_ends_with_its_remedy(kind: FindingKind) -> None:
    """The text has the observation first, then the remedy with the names filled in."""
    event = raised(f"{kind}:x{{}}", kind, "seen {this}", intent_id="mine", symbol_id="S", now_ns=1)
    seen, _, to_do = event.finding.text.partition(TO_DO)
    assert seen == "seen {this}"
    assert to_do == REMEDIATION[kind].do.format(finding_id=f"{kind}:x{{}}", about="mine")


def test_findings_are_raised_in_one_function() -> None:
    """`FindingRaised` is constructed in one function of the kernel."""
    makers = {
        path.name
        for path in KERNEL.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("FindingRaised")
    }
    assert makers == {"findings.py"}
