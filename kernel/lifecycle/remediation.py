"""What to do about each kind of finding: the end of every finding's text. For people; nothing is decided by it.

Used by whoever raises a finding.
"""

from __future__ import annotations

from kernel.models import Finding, FindingKind

TO_DO = ". To do: "
"""Stands between what was seen and what to do about it."""
REMEDIATION = {
    FindingKind.OVERFILL: (
        "nothing more is sent for it; decide what becomes of the position, then `orderctl resolve --finding {finding_id}`"
    ),
    FindingKind.FILL_AFTER_TERMINAL: (
        "the trade counts; hold `orderctl get fills` against the venue's own list, and ask the venue if they differ"
    ),
    FindingKind.LATE_ACCEPT: (
        "it counts, and is canceled unless it is the one order wanted; look at what it filled: `orderctl describe {about}`"
    ),
    FindingKind.DUPLICATE_ORDER: (
        "the youngest is canceled until one is left; look at what they filled: `orderctl describe {about}`"
    ),
    FindingKind.UNEXPECTED_TRADE: (
        "if nobody else should trade on this account, find out who does; `orderctl run --external-orders adopt` (or cancel)"
        " takes such orders over; when dealt with, `orderctl resolve --finding {finding_id}`"
    ),
    FindingKind.UNEXPLAINED_QUANTITY: (
        "hold what was recorded against the venue's own trades; it is over once fills explain the quantity"
    ),
    FindingKind.FILL_KEY_REUSED: (
        "both count; hold `orderctl get fills` against the venue's own list, and have the adapter build unique keys"
    ),
    FindingKind.POSITION_DRIFT: (
        "look for trades of others, a split or a settlement at the venue; when it is known, `orderctl resolve --finding"
        " {finding_id}` takes the venue's figure for what is expected"
    ),
    FindingKind.BALANCE_DRIFT: (
        "look for a deposit, a withdrawal, a fee or a trade of somebody else; when it is known, `orderctl resolve --finding"
        " {finding_id}` books it as a transfer"
    ),
    FindingKind.UNKNOWN_TOO_LONG: (
        "ask the venue in other ways; when you know, `orderctl resolve {about} --as dead` (never arrived) or `rejected`"
    ),
    FindingKind.GROUP_OVERFILL: (
        "trade the excess back if it is not wanted; when dealt with, `orderctl resolve --finding {finding_id}`"
    ),
    FindingKind.CLOCK_SKEW: (
        "set that host's clock (NTP), then start its kernel again: its requests are refused, or valid for too long"
    ),
    FindingKind.STORM: (
        "nothing is placed in {about} until this is resolved; find out why they are refused, mend it, then"
        " `orderctl resolve --finding {finding_id}`"
    ),
}  # fmt: skip


def with_remediation(finding: Finding) -> Finding:
    """The same finding, its text with what to do about it."""
    about = finding.intent_id or finding.symbol_id or ""
    to_do = REMEDIATION[finding.kind].format(finding_id=finding.finding_id, about=about)
    return finding.model_copy(update={"text": f"{finding.text}{TO_DO}{to_do}"})
