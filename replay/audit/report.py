"""Format a verification report as text. Called by `orderctl verify`."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from replay.formatting.output import Format, Item, Listing, json_line, render
from replay.formatting.problems import REMEDIES, Problem, VerifyReport

COLUMNS = ("POSITION", "KIND", "PROBLEM")
COUNT_NOUNS = {"foreign_events": "unknown events", "notes": "tree heads", "recalled_intents": "rehydrated intents"}
"""Nouns of the counts whose name is not their noun."""


def report_text(report: VerifyReport, form: str) -> str:
    """Format a report: `table`, `json` (one object) or `jsonl` (one object per problem, then a summary)."""
    match form:
        case "jsonl":
            return "".join(map(json_line, [*map(problem_data, report.problems), summary_data(report)]))
        case "json":
            return json_line(summary_data(report) | {"problems": [problem_data(item) for item in report.problems]})
        case _:
            items = tuple(Item("", {}, ((where(item), item.kind, item.text),)) for item in report.problems)
            table = render(Listing("problem", COLUMNS, len(COLUMNS), items), Format.TABLE) if items else ""
            kinds = sorted({problem.kind for problem in report.problems})
            remedies = "".join(f"{kind}: {REMEDIES[kind].do} (`orderctl help runbook`)\n" for kind in kinds)
            return table + remedies + f"{sentence(report)}\n"


def where(problem: Problem) -> str:
    if problem.position is None:
        return "-"
    if problem.last_position in (None, problem.position):
        return str(problem.position)
    return f"{problem.position}-{problem.last_position}"


def problem_data(problem: Problem) -> dict[str, Any]:
    data = {"position": problem.position, "kind": str(problem.kind), "text": problem.text}
    return data if problem.last_position is None else data | {"last_position": problem.last_position}


def summary_data(report: VerifyReport) -> dict[str, Any]:
    """Return a report without its problems as JSON data."""
    data = {"ok": report.ok, **structs.asdict(report)}
    del data["problems"]
    return data


def sentence(report: VerifyReport) -> str:
    seen = ", ".join(count_text(name, count) for name, count in report.counts.items() if count)
    log = f"the log of {report.exchange_id} ({report.log_id})"
    if report.ok:
        return f"verified: {log} is intact up to position {report.position} ({seen})"
    kept = len(report.problems)
    some = "" if kept == report.problem_count else f", of which the first {kept} are shown"
    first = "" if report.first_bad_position is None else f", the first at position {report.first_bad_position}"
    problems = count_text("problems", report.problem_count)
    return f"NOT verified: {log} up to position {report.position} has {problems}{first}{some} ({seen})"


def count_text(name: str, count: int) -> str:
    """Return a count with its noun, as in `1 fill`."""
    if name == "signed_upto":
        return f"signed up to position {count}"
    noun = COUNT_NOUNS.get(name, name)
    return f"{count} {noun.removesuffix('s') if count == 1 else noun}"
