"""What every golden history folds to, byte for byte, for the stored fold version.

`test_histories` compares what a fold shows; this compares everything in a state, a checkpoint and the SQL tables, which are
reused as long as the fold version is the same. So a change of any digest needs a new `FOLD_VERSION`. After raising it,
`KERNEL_WRITE_GOLDEN=1 pytest tests/golden/test_fold_version.py` stores new digests; it never replaces those of the stored
version.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kernel.log.backends.memory import MemoryLog
from kernel.platform.version import FOLD_VERSION, fold_version
from projections import State, checkpoint
from projections.retention.policy import RetentionPolicy
from projections.sql.schema import TABLES
from replay.log_access.log_reader import fold
from replay.readmodel.sync import open_tables, sync_tables
from tests.golden.test_histories import named, restored
from tests.recorded import log_of

STORED = Path(__file__).parent / "fold_digests.json"
COMMAND = "KERNEL_WRITE_GOLDEN=1 pytest tests/golden/test_fold_version.py"
Digests = dict[str, dict[str, str]]


async def digests_of(path: Path, directory: Path) -> dict[str, str]:
    """The digests of a history's state, with many and few intents in memory, its checkpoint and its tables."""
    log = log_of(restored(path))
    state = await fold(log, State())
    few = await fold(log, State(retention=RetentionPolicy(intents_max=1, every_positions=10)))
    tables = f"sqlite:///{directory / path.stem}.db"
    await sync_tables(log, tables)
    return {
        "state": state.digest(),
        "state_with_few_intents": few.digest(),
        "checkpoint": digest_of(
            [unordered(json.loads(line)) for line in [*checkpoint.image(state, bytes(32)).lines()][1:]]
        ),
        "tables": await tables_digest(log, tables),
    }


async def tables_digest(log: MemoryLog, target: str) -> str:
    async with open_tables(log, target, create=False) as store:
        active = store.active()
        assert active is not None
        rows = [[table.name, table.names, [*store.rows(table, active.number)]] for table in TABLES]
    return digest_of(rows)


def unordered(value: Any) -> Any:
    """JSON with its lists sorted: sets are written in any order. `state` covers the order of lists."""
    if isinstance(value, dict):
        return {key: unordered(item) for key, item in value.items()}
    return sorted(map(unordered, value), key=json.dumps) if isinstance(value, list) else value


def digest_of(value: list[Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@pytest.fixture(scope="module")
def digests(tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """What each golden history folds to today."""
    directory = tmp_path_factory.mktemp("tables")
    return {path.stem: asyncio.run(digests_of(path, directory)) for path in named(".jsonl")}


def stored() -> tuple[int | None, Digests]:
    """The stored digests and their fold version."""
    if not STORED.exists():
        return None, {}
    content = json.loads(STORED.read_text())
    return content["fold_version"], content["digests"]


def test_a_changed_fold_has_a_new_version(digests: Digests) -> None:
    """Digests and fold version change only together."""
    version, known = stored()
    if os.environ.get("KERNEL_WRITE_GOLDEN") and version != FOLD_VERSION:
        STORED.write_text(
            json.dumps({"fold_version": FOLD_VERSION, "digests": digests}, indent=1, sort_keys=True) + "\n"
        )
        version, known = stored()
    assert version == FOLD_VERSION, (
        f"{STORED.name} is of fold version {version}, the code has {FOLD_VERSION}: {COMMAND}"
    )
    changed = [f"{name}.{part}" for name, parts in digests.items() for part in parts if known.get(name) != parts]
    assert digests == known, f"{changed} changed: raise FOLD_VERSION in kernel/version.py and regenerate ({COMMAND})"


def test_the_stored_name_follows_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints and tables name the version; it never equals a hash of earlier releases."""
    assert fold_version() == f"fold-{FOLD_VERSION}"
    monkeypatch.setattr("kernel.platform.version.FOLD_VERSION", FOLD_VERSION + 1)
    assert fold_version() == f"fold-{FOLD_VERSION + 1}"
