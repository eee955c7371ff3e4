"""The runbook's entry for each kind of finding, and the remedy at the end of each finding's text. Nothing is decided by it.

Used by whoever raises a finding, and by `orderctl help runbook`.
"""

from __future__ import annotations

from msgspec import structs

from kernel.errors import Remedy
from kernel.models import Finding, FindingKind

TO_DO = ". To do: "
"""Stands between the observation and the remedy."""
REMEDIATION = {
    FindingKind.OVERFILL: Remedy(
        "An order, or all orders of an intent, filled more than the intent's quantity.",
        "`orderctl history {about}`, `orderctl get fills {about}`",
        "nothing more is sent for this intent; decide what happens to the position, then"
        " `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "wait for the kernel to trade the excess back",
    ),
    FindingKind.FILL_AFTER_TERMINAL: Remedy(
        "Trades add up to more than the quantity that the order ended with.",
        "`orderctl get fills {about}`",
        "compare `orderctl get fills {about}` with the exchange's own list; if they differ, ask the exchange",
        "book the trade by hand: it already counts",
    ),
    FindingKind.LATE_ACCEPT: Remedy(
        "An order is open although its attempt was resolved as never arrived, or as rejected.",
        "`orderctl describe {about}`",
        "look at its fills with `orderctl describe {about}`; the kernel cancels it unless it is the intent's only order",
        "cancel it at the exchange: the kernel does",
    ),
    FindingKind.DUPLICATE_ORDER: Remedy(
        "One intent has two open orders, or two orders have one client order id.",
        "`orderctl describe {about}`",
        "look at their fills with `orderctl describe {about}`; the kernel cancels the youngest until one is left",
        "place another order to offset it before the finding is resolved",
    ),
    FindingKind.UNEXPECTED_TRADE: Remedy(
        "The account traded in an external order, one that belongs to no intent.",
        "`orderctl get external`",
        "find out who trades on this account; `orderctl run --external-orders adopt` (or cancel) takes such orders over;"
        " then `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "ignore it on an account that only the kernel should use",
    ),
    FindingKind.UNEXPLAINED_QUANTITY: Remedy(
        "The exchange reports a larger filled quantity than the known trades explain.",
        "`orderctl history {about}` (rows marked `inferred`), and the exchange's own list of trades",
        "wait for the missing trades: they resolve the finding; if they do not come, compare with the exchange's list",
        "rely on the average price until then",
    ),
    FindingKind.FILL_KEY_REUSED: Remedy(
        "Two different trades have the same fill key.",
        "`orderctl get fills {about}`",
        "both trades count; compare `orderctl get fills {about}` with the exchange's list, and make the adapter's fill keys"
        " unique",
        "assume that one of them is a duplicate",
    ),
    FindingKind.ID_REUSED: Remedy(
        "One order id stands for two orders: another order has the exchange's or the client order id of one of an intent.",
        "`orderctl get external`, `orderctl get orders -o wide`",
        "compare the fills of both orders with the exchange's list; if it gives ids again, the adapter should declare"
        " `order_ids_unique=False`; then `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "cancel the order at the exchange by this id: it may be the other one",
    ),
    FindingKind.POSITION_DRIFT: Remedy(
        "The exchange's position differs from the sum of the fills.",
        "`orderctl get positions`, `orderctl get external`",
        "look for external trades, a split or a settlement; once the cause is known,"
        " `orderctl resolve --finding {finding_id} --evidence TEXT` makes the exchange's figure the expected one",
        "resolve it before the cause is known",
    ),
    FindingKind.BALANCE_DRIFT: Remedy(
        "A balance differs from the opening balance plus fills and transfers.",
        "`orderctl get account`, `orderctl statement`",
        "look for a deposit, a withdrawal, a fee or an external trade; once the cause is known,"
        " `orderctl resolve --finding {finding_id} --evidence TEXT` books the difference as a transfer",
        "resolve a difference that you cannot name",
    ),
    FindingKind.UNKNOWN_TOO_LONG: Remedy(
        "The outcome of a request has been unknown for `unknown_too_long_s` (60 s).",
        "`orderctl describe {about}`, `orderctl history {about}`, and the exchange's own screens",
        "ask the exchange in other ways; once you know, `orderctl resolve {about} --as dead --evidence TEXT` (it never"
        " arrived) or `--as rejected`",
        "guess, or place the order again under another id: the first one may be open",
    ),
    FindingKind.GROUP_OVERFILL: Remedy(
        "The orders of a group filled more than the group's mode permits.",
        "`orderctl get groups`, `orderctl describe group NAME`",
        "trade the excess back if you do not want it, then `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "cancel the group for this reason: the fills stand",
    ),
    FindingKind.EXIT_MISSING: Remedy(
        "A bracket's entry has filled, and for all or a part of it no exit works: no stop if it has one, else none at all.",
        "`orderctl describe group NAME`, and the exchange's open orders",
        "the kernel goes on trying; fix what the text names (funds locked by another order, a quantity below the symbol's"
        " minimum), or close the position yourself and cancel the group's orders",
        "place a second stop at the exchange: the kernel does not know it, and its own may still be accepted",
    ),
    FindingKind.CLOCK_SKEW: Remedy(
        "A host's clock differs by more than a second from the exchange's, requests were refused for their timestamps, or"
        " the clock is behind the newest event of the log.",
        "`orderctl get findings` (the text names the host); `VENUE_CLOCK` in `orderctl health`",
        "set that host's clock (NTP): until then its requests are refused, or stay valid too long; the finding is"
        " resolved by the next comparison, where the exchange does not tell its time by 150 s without a refusal; one about"
        " the log by `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "let that kernel lead before its clock is set",
    ),
    FindingKind.FALSE_END: Remedy(
        "The exchange reported the end of an order and then showed it open.",
        "`orderctl history {about}`, and the exchange's own screens",
        "nothing: the kernel works the order again, or cancels it if nothing should be open; ask the exchange why it"
        " reports false ends",
        "place the order again by hand: two orders would be open",
    ),
    FindingKind.GHOST: Remedy(
        "The exchange no longer knows an order and never reported its end.",
        "`orderctl history {about}`, and the exchange's own list of orders and trades",
        "compare the fills in `orderctl get fills {about}` with the exchange's own list; then"
        " `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "wait for the order: it counts as canceled, with the fills that are known",
    ),
    FindingKind.STORM: Remedy(
        "The exchange rejected `storm_rejections` intents of a symbol alike within `storm_window_s`; its orders wait.",
        "`orderctl get findings` (the text has the exchange's message)",
        "nothing is placed in {about} until this is resolved; fix the cause of the rejections (funds, permissions,"
        " tick size), then `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "resolve it to try whether orders pass again",
    ),
    FindingKind.ADAPTER_ERROR: Remedy(
        "The exchange's adapter raised an error that it must not raise, or gave an answer of the wrong type.",
        "`orderctl get findings` (the text names the call, the error and the line), the process's log (the whole trace)",
        "nothing is lost: the outcome of the call is unknown and is queried; have the adapter corrected, then"
        " `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "resolve it before the adapter is corrected: the next such error raises it again",
    ),
    FindingKind.STREAM_SILENT: Remedy(
        "The exchange's stream of reports is connected and did not bring what a query showed, or its heartbeat.",
        "`VENUE_STREAM` in `orderctl health`, `venue_stream_reconnects_total` in `orderctl metrics`",
        "nothing is lost: the kernel reconnects at most once a minute and queries the account, and the next report resolves"
        " this; if it stays, check the exchange's status page and what stands between (proxy, firewall)",
        "restart in a loop: the fills are known from the queries",
    ),
    FindingKind.SYMBOL_QUARANTINED: Remedy(
        "The exchange's data of one symbol do not fit the log: other decimals, or data that contradict each other.",
        "`orderctl get findings` (the text has both values), `orderctl get symbols`",
        "nothing is placed in {about} until the exchange shows the old data again, which resolves this; cancels are sent;"
        " correct the adapter, or trade the symbol on a new log",
        "change the decimals in the log: quantities and prices would be off by a power of ten",
    ),
    FindingKind.TRADES_GAP: Remedy(
        "The kernel did not list trades for longer than the exchange keeps them: fills of that time may be missing.",
        "`orderctl get findings` (the text has the time), the exchange's own statement of the account",
        "compare the statement of that time with `orderctl get fills`; once the difference is known,"
        " `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "assume that nothing traded because no finding of a drift is open",
    ),
    FindingKind.UNOWNED_CANDIDATE: Remedy(
        "An external order may be that of a submit whose answer was lost, or made by the trigger of a stop that has ended:"
        " the exchange does not show client order ids.",
        "`orderctl get external`, `orderctl describe {about}`, and the exchange's own screens",
        "find out who placed the orders named here; then `orderctl resolve {about} --order ID --evidence TEXT`, or, if none"
        " is ours, `--as dead`; if the submit is resolved already, cancel or close the order at the exchange and"
        " `orderctl resolve --finding {finding_id} --evidence TEXT`",
        "place the order again under another id, or guess: two orders could fill",
    ),
    FindingKind.VENUE_DISAGREES: Remedy(
        "The exchange works other terms than requested, or undoes or ignores requests, several times in a row.",
        "`orderctl describe {about}`, `orderctl history {about}` (the text has what was requested and what works)",
        "change the order to terms that the exchange takes, or"
        " `orderctl resolve --finding {finding_id} --accept --evidence TEXT` to keep what works, or without `--accept`"
        " for another try; the setting `venue_terms = \"ACCEPT\"` always keeps what works",
        "request the same terms again and again: each change loses the order's place in the queue",
    ),
}  # fmt: skip
"""In `look` and `do`, {about} is the intent or symbol and {finding_id} the finding."""


def with_remediation(finding: Finding) -> Finding:
    """The finding with its remedy at the end of its text."""
    about = finding.intent_id or finding.symbol_id or ""
    to_do = REMEDIATION[finding.kind].do.format(finding_id=finding.finding_id, about=about)
    return structs.replace(finding, text=f"{finding.text.rstrip('.')}{TO_DO}{to_do}")
