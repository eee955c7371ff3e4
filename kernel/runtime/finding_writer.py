"""Raises and resolves findings about the account, the venue and the log, in the background.

Used by the log monitor and the session, which must not wait for their own appends. Level-based: a finding that is open is
not raised again, and one that is not open is not resolved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from kernel import events
from kernel.clock import Clock
from kernel.lifecycle.findings import finding_id, raised
from kernel.models import Evidence, FindingKind
from kernel.state import KernelState
from kernel.streams.event_writer import EventWriter, log_reports


@dataclass(eq=False)
class FindingWriter:
    """Appends findings in tasks; a failed append is logged, and tried again when the condition is seen again."""

    state: KernelState
    writer: EventWriter
    clock: Clock
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)
    """The appends that are under way, by finding id."""
    _later: dict[str, Callable[[], object]] = field(default_factory=dict, init=False)
    """The newest call about a finding whose append was under way: repeated when that has ended."""

    def is_open(self, kind: FindingKind, name: str) -> bool:
        """Return whether a finding is raised and not resolved."""
        known = self.state.finding(finding_id(kind, name))
        return known is not None and known.resolved_at_ns is None

    def raise_finding(
        self,
        kind: FindingKind,
        name: str,
        text: str,
        *,
        symbol_id: str | None = None,
        blocks_sending: bool | None = None,
    ) -> bool:
        """Raise a finding; return whether it is new. An open one is raised again if `blocks_sending` changes."""
        key = finding_id(kind, name)
        if key in self.tasks:
            self._later[key] = partial(
                self.raise_finding, kind, name, text, symbol_id=symbol_id, blocks_sending=blocks_sending
            )
            return False
        known = self.state.finding(key)
        if known is not None and known.resolved_at_ns is None and known.blocks_sending == blocks_sending:
            return False
        now_ns = self.clock.now_ns()
        self._append(key, raised(key, kind, text, symbol_id=symbol_id, blocks_sending=blocks_sending, now_ns=now_ns))
        return True

    def resolve(self, kind: FindingKind, name: str, text: str) -> None:
        """Resolve a finding, if it is open."""
        key = finding_id(kind, name)
        if key in self.tasks:
            self._later[key] = partial(self.resolve, kind, name, text)
        elif self.is_open(kind, name):
            self._append(key, events.FindingResolved(finding_id=key, text=text))

    async def settled(self) -> None:
        """Return once the appends that are under way have ended."""
        await asyncio.gather(*self.tasks.values())

    def _append(self, key: str, event: events.BaseEvent) -> None:
        append = partial(
            self.writer.append, events.CONTROL_STREAM, [event], actor="kernel", evidence=Evidence.INFERRED, is_fact=True
        )
        task = asyncio.create_task(log_reports(append, f"the finding {key}"), name="kernel-finding")
        self.tasks[key] = task
        task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        del self.tasks[key]
        later = self._later.pop(key, None)
        if later is not None and not task.cancelled():
            later()
