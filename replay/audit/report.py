"""What a verification found, as text for people and for programs.

Called by `orderctl verify`. Returns text; prints nothing.
"""

from __future__ import annotations

from typing import Any

from replay.formatting.output import Format, Item, Listing, json_line, render
from replay.formatting.problems import REMEDIES, Problem, VerifyReport

COLUMNS = ("POSITION", "KIND", "PROBLEM")


def report_text(report: VerifyReport, form: str) -> str:
    """A report: `table`, `json` (one object), `jsonl` (an object for each problem, and at the end one for the whole)."""
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
    """Its position, or positions."""
    if problem.position is None:
        return "-"
    if problem.last_position in (None, problem.position):
        return str(problem.position)
    return f"{problem.position}-{problem.last_position}"


def problem_data(problem: Problem) -> dict[str, Any]:
    """One problem for programs."""
    data = {"position": problem.position, "kind": str(problem.kind), "text": problem.text}
    return data if problem.last_position is None else data | {"last_position": problem.last_position}


def summary_data(report: VerifyReport) -> dict[str, Any]:
    """The whole for programs, without its problems."""
    return {
        "ok": report.ok,
        "exchange_id": report.exchange_id,
        "log_id": report.log_id,
        "position": report.position,
        "chain_hash": report.chain_hash,
        "first_bad_position": report.first_bad_position,
        "problem_count": report.problem_count,
        "counts": dict(report.counts),
    }


def sentence(report: VerifyReport) -> str:
    """The whole for people."""
    seen = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in report.counts.items() if count)
    log = f"the log of {report.exchange_id} ({report.log_id}) up to position {report.position}"
    if report.ok:
        return f"verified: {log} is what was recorded ({seen})"
    kept = len(report.problems)
    some = "" if kept == report.problem_count else f", of which the first {kept} are shown"
    first = "" if report.first_bad_position is None else f", the first at position {report.first_bad_position}"
    return f"NOT verified: {log} has {report.problem_count} problems{first}{some} ({seen})"
