"""Findings, open and resolved. Folded by `Fold`."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from kernel import events
from kernel.models import Finding


class Findings:
    """Every finding by id. A resolved finding that is raised again is open again."""

    def __init__(self) -> None:
        self._findings: dict[str, Finding] = {}

    def apply(self, event: events.FindingRaised | events.FindingResolved) -> None:
        if isinstance(event, events.FindingRaised):
            self._findings.pop(event.finding.finding_id, None)
            self._findings[event.finding.finding_id] = event.finding
            return
        known = self._findings.get(event.finding_id)
        if known is not None:
            changed = {"resolved_at_ns": event.recorded_at_ns, "resolution": event.text}
            self._findings[event.finding_id] = structs.replace(known, **changed)

    def restore(self, findings: Iterable[Finding]) -> None:
        self._findings.update((finding.finding_id, finding) for finding in findings)

    def get(self, finding_id: str) -> Finding | None:
        return self._findings.get(finding_id)

    def is_open(self, finding_id: str) -> bool:
        """Return whether a finding was raised and not resolved."""
        known = self._findings.get(finding_id)
        return known is not None and known.resolved_at_ns is None

    def all(self) -> list[Finding]:
        """Every finding, in the order raised."""
        return list(self._findings.values())
