"""The work and output of `orderctl rebuild` and `orderctl tables`. Called by the CLI."""

from __future__ import annotations

from collections.abc import Callable

from replay.formatting.output import Item, Listing
from replay.formatting.progress_bar import progress_bar
from replay.log_access.log_reader import open_for_reading
from replay.log_access.threads import in_thread
from replay.readmodel.rebuild import RebuildReport, rebuild, rebuild_tables, roll_back
from replay.readmodel.sync import Synced, open_tables, sync_tables

COLUMNS = ("COMPARED", "POSITION", "RESULT", "FIELD", "LOG", "FOUND")
VERSION_COLUMNS = ("VERSION", "ACTIVE", "POSITION", "BEHIND", "WHERE", "CODE")


async def run(log: str, to: str | None, exchange_id: str, *, anew: bool) -> RebuildReport:
    """Rebuild, with a progress bar for people."""
    with progress_bar("rebuild") as progress:
        if anew:
            return await rebuild_tables(log, to, progress=progress, exchange_id=exchange_id)
        return await rebuild(log, tables=to, progress=progress, exchange_id=exchange_id)


def listing(report: RebuildReport) -> Listing:
    """One line for the log, and one per comparison."""
    log = ("log", f"1…{report.position}", "verified", f"digest {report.digest}", "", "")
    compared = [
        (item.what, str(item.position), "equal" if item.equal else "differs", item.field, item.expected, item.found)
        for item in report.compared
    ]
    lines = (log, *compared)
    return Listing("rebuild", COLUMNS, len(COLUMNS), (Item(report.exchange_id, report.as_dict(), lines),), single=True)


def summary(report: RebuildReport) -> str:
    text = f"{report.position} events in {report.seconds:.1f} s, {report.events_per_s:,.0f}/s"
    if report.tables_version is not None:
        text += f"; tables v{report.tables_version} are active"
    first = report.first
    if first is not None:
        return f"{text}; {first.what}: first difference at position {first.position}, in {first.field}"
    return f"{text}; " + ("no difference" if report.compared else "nothing is stored to compare with")


async def rolled_back(log: str, to: str | None, exchange_id: str) -> str:
    version = await roll_back(log, to, exchange_id=exchange_id)
    text = f"tables v{version.number} are active, at position {version.position}"
    return f"{text}: `orderctl tables sync` brings them to the head"


async def sync(
    log: str, to: str | None, exchange_id: str, *, follow: bool, checkpoint_dir: str | None, echo: Callable[[str], None]
) -> None:
    """Bring the tables to the head; `echo` gets a line when each version first reaches it."""
    known: set[int] = set()

    def report_sync(synced: Synced) -> None:
        if synced.version not in known:
            echo(f"tables v{synced.version} in {synced.where} are at position {synced.position}")
        known.add(synced.version)

    with progress_bar("tables") as progress:
        await sync_tables(
            log,
            to,
            exchange_id=exchange_id,
            follow=follow,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
            report=report_sync,
        )


async def versions(log: str, to: str | None, exchange_id: str) -> Listing:
    async with open_for_reading(log, exchange_id) as found, open_tables(found, to, create=False) as store:
        head = (await found.head()).position
        known = await in_thread(store.versions) if await in_thread(store.exists) else []
        items = [
            Item(
                f"v{item.number}",
                {**item._asdict(), "chain_hash": item.chain_hash.hex(), "where": store.where, "head": head},
                ((f"v{item.number}", "yes" if item.active else "no", str(item.position), str(head - item.position),
                  store.where, item.code_hash[:12]),),
            )
            for item in known
        ]  # fmt: skip
    return Listing("tables", VERSION_COLUMNS, 5, tuple(items))
