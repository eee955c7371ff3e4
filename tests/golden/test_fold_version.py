"""What every golden history folds to, byte for byte, beside the fold version of the code that folded it.

`test_histories` compares what a fold shows; this compares all that a state, a checkpoint or a row of the SQL tables holds.
Checkpoints and tables are taken from one fold version to the next only when it is the same, so a change of any digest needs
a new `FOLD_VERSION`. After raising it, `KERNEL_WRITE_GOLDEN=1 pytest tests/golden/test_fold_version.py` stores the digests
anew; it never stores other digests for the version that is stored.
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
    """The digests of a history's state, with many and with few intents in memory, of its checkpoint and of its tables."""
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
    """A value of JSON with its lists sorted: sets are written in any order. `state` covers the order of what has one."""
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
    """The stored digests, with the fold version that they are of."""
    if not STORED.exists():
        return None, {}
    content = json.loads(STORED.read_text())
    return content["fold_version"], content["digests"]


def test_a_changed_fold_has_a_new_version(digests: Digests) -> None:
    """Digests and fold version change together: neither alone."""
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
    """Checkpoints and tables name the version; no hash of earlier releases is one."""
    assert fold_version() == f"fold-{FOLD_VERSION}"
    monkeypatch.setattr("kernel.platform.version.FOLD_VERSION", FOLD_VERSION + 1)
    assert fold_version() == f"fold-{FOLD_VERSION + 1}"
