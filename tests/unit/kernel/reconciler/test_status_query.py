"""Which symbol a status query names."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.models import ExecType
from kernel.reconciler.status_answer import symbol_id_of_record
from tests.folding import a_report, a_submitted_journal


@pytest.mark.parametrize("lost", [{}, {"sent_order": None}, {"sent_order": None, "intent": None}])
def test_a_query_names_a_symbol_whatever_is_left_of_the_record(lost: dict[str, None]) -> None:
    """An adopted order was never sent by the kernel, and its intent may be deleted."""
    journal = a_submitted_journal()
    journal.hear("i", a_report(ExecType.NEW))
    record = journal.record()
    assert record.orders
    assert symbol_id_of_record(replace(record, **lost)) == record.orders[0].order.symbol_id != ""
