"""A stored journal of the paper exchange must load forever, and continue with the same keys."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import msgspec

from kernel.order_spec import OcoMode
from kernel.venues.base import AmendDialect
from kernel.venues.paper.matching.config import full_symbols
from tests.paper_world import LAST, limit, recorded

STORED = Path(__file__).parent / "paper_journal.jsonl.gz"
"""A day with every kind of entry, written by commit 68450c3."""
DIGEST = "18243d07bae8d040de13af23d56728885d43feef185fe87d4782e5cfae768d8f"


def test_the_stored_journal_restores_its_state(tmp_path: Path) -> None:
    """Orders, trades, balances and reported fills are those of the exchange that wrote it, and it continues."""
    path = tmp_path / "journal"
    path.write_bytes(gzip.decompress(STORED.read_bytes()))
    path.chmod(0o600)
    config = {
        "symbols": full_symbols(),
        "amend": AmendDialect.IN_PLACE,
        "native_groups": frozenset(OcoMode) - {OcoMode.NONE},
        "validity_window_ns": None,
    }
    with recorded(path, **config) as bench:
        fills = [msgspec.to_builtins(report) for report in bench.engine.fills]
        state = json.dumps([bench.engine.truth(), fills], sort_keys=True)
        assert hashlib.sha256(state.encode()).hexdigest() == DIGEST
        bench.submit("next", limit(price=LAST - 90_000))
    with recorded(path, **config) as bench:
        assert bench.status("next").leaves_qty
