"""The configuration of a kernel's process: a TOML file, environment variables and options, as settings.

Called by `orderctl run`. Options override `ORDERCTL_KERNEL_…` variables, which override the file, which overrides defaults.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from kernel.commands.validation import violations_of
from kernel.errors import ValidationError, Violation
from kernel.models import ExternalOrderPolicy
from kernel.settings import KernelSettings, LimitSettings
from replay.transparency.keys import signer_keys
from replay.transparency.tree_head_signer import TreeHeadOptions

SETTINGS_PREFIX = "ORDERCTL_KERNEL_"
RUN_KEYS = ("log", "exchange", "venue", "address", "external_orders", "tape", "symbol", "speed", "seed", "journal",
            "markets", "notes", "note_key", "note_events", "note_every", "log_format", "log_level", "metrics_port",
            "metrics_host")  # fmt: skip
"""What a configuration file may set beside its tables `kernel` and `limits`."""


def read_config(path: str | Path) -> dict[str, Any]:
    """A configuration file (TOML): keys as the options of `run`, a table `kernel` of its settings, one of pre-trade limits.

    `[limits]` is for every symbol, `[limits.symbols.BTCUSDT]` has what is different in one. Amounts are decimals as text,
    in the symbol's own units: symbols and their scales are not known yet, and one default is for all of them.

    Raises `ValidationError` for a file that can't be read and for keys that mean nothing.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ValidationError(f"the configuration {path} can't be read: {problem}") from problem
    known = {*RUN_KEYS, "kernel", "limits"}
    wrong = [(key, known) for key in found if key not in known]
    table = found.get("kernel", {})
    if not isinstance(table, dict):
        raise ValidationError(f"{path}: [kernel] is a table of settings")
    if "limits" in table:
        raise ValidationError(f"{path}: limits are a table of their own, [limits]")
    limits_of(found.get("limits", {}), path)
    if lists := [key for key, value in found.items() if key in RUN_KEYS and not isinstance(value, str | int | float)]:
        text = "{field} must be {limit}"
        raise ValidationError(f"{path}", [Violation(key, "type", "text or a number", "", text) for key in lists])
    wrong += [
        (f"kernel.{key}", set(KernelSettings.model_fields)) for key in table if key not in KernelSettings.model_fields
    ]
    if wrong:
        text = "{field} is not a known setting; known settings: {limit}"
        raise ValidationError(
            f"{path}", [Violation(key, "key", ", ".join(sorted(names)), "", text) for key, names in wrong]
        )
    return found


def limits_of(table: Any, source: str | Path) -> LimitSettings:
    """The table `limits` of a configuration file as settings. `ValidationError` for what means nothing."""
    if not isinstance(table, dict):
        raise ValidationError(f"{source}: [limits] is a table of limits")
    default = {key: value for key, value in table.items() if key != "symbols"}
    try:
        return LimitSettings.model_validate({"default": default, "symbols": table.get("symbols", {})})
    except pydantic.ValidationError as problem:
        raise ValidationError(f"the limits of {source} are not understood", violations_of(problem)) from problem


def settings_over(
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    limits: Mapping[str, Any] | None = None,
    external_orders: str | None = None,
) -> KernelSettings:
    """A kernel's settings: an option over environment variables over a file's tables over the defaults."""
    if limits is not None:
        table = {**table, "limits": limits_of(limits, "the configuration")}
    set_outside = {name.upper() for name in environ}
    given = {key: value for key, value in table.items() if SETTINGS_PREFIX + key.upper() not in set_outside}
    if external_orders is not None:
        given["external_orders"] = ExternalOrderPolicy(external_orders.upper())
    return KernelSettings(**given)


def notes_of(
    *, notes_directory: str | None, note_keys: Sequence[str], note_events: int, note_every: float
) -> TreeHeadOptions | None:
    """How notes are written; None without a directory. `ValidationError` for one without a key, and a key without one."""
    if notes_directory is None and not note_keys:
        return None
    if notes_directory is None:
        raise ValidationError("a key signs notes, but where do they go? --notes DIR")
    keys = signer_keys(note_keys)
    return TreeHeadOptions(directory=Path(notes_directory), keys=keys, every_events=note_events, every_s=note_every)
