"""The result of a drill: counts, times and problems, and how they are printed.

Filled by the drill's parts, printed by `__main__`, asserted by the test.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Report:
    """The result of one drill."""

    seed: int
    say: Callable[[str], None] = print
    """Called with each line as it happens."""
    acts: Counter[str] = field(default_factory=Counter)
    """Number of acts by kind."""
    commands: Counter[str] = field(default_factory=Counter)
    """Number of commands by result."""
    exits: Counter[str] = field(default_factory=Counter)
    """Number of kernels that ended by themselves, by exit code."""
    attempts: int = 0
    """Requests that the taps saw on their way to the exchange."""
    held_back: int = 0
    """Requests dropped because the log could not be read when they passed."""
    rows: int = 0
    fills: int = 0
    epochs: int = 0
    """Elections, the first one included."""
    leaderless_s_max: float = 0.0
    """Longest time without a leader."""
    converged_s: float | None = None
    """Time from the last act to convergence; None without it."""
    problems: list[str] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def did(self, what: str) -> None:
        """A line with the seconds since the start."""
        self.say(f"{time.monotonic() - self.began_s:8.2f}  {what}")

    def problem(self, text: str) -> None:
        """Note a broken promise."""
        self.problems.append(text)
        self.did(f"PROBLEM  {text}")

    def lines(self) -> list[str]:
        """The summary."""
        converged = "never" if self.converged_s is None else f"after {self.converged_s:.1f} s"
        return [
            "",
            f"seed {self.seed}, {time.monotonic() - self.began_s:.0f} s",
            f"acts       {counts(self.acts)}",
            f"commands   {counts(self.commands)}",
            f"kernels    ended by themselves: {counts(self.exits)}",
            f"requests   {self.attempts} seen at the wire, {self.held_back} of them held back and lost",
            f"log        {self.rows} rows, {self.fills} fills, {max(0, self.epochs - 1)} takeovers",
            f"leaderless {self.leaderless_s_max:.1f} s at most",
            f"converged  {converged}",
            f"problems   {len(self.problems)}",
            *(f"  {text}" for text in self.problems),
        ]


def counts(counter: Counter[str]) -> str:
    """Return counts in one line, by name."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"
