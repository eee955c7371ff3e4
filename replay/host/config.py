"""The configuration of a kernel process, as settings. Called by `orderctl run`.

Options override `ORDERCTL_KERNEL_…` variables, which override the TOML file, which overrides the defaults.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from msgspec.structs import replace

from kernel.errors import ValidationError, Violation
from kernel.models import ExternalOrderPolicy
from kernel.safety.limit_settings import LimitSettings
from kernel.settings import KernelSettings
from kernel.values.edge import violations_of
from replay.transparency.keys import signer_keys
from replay.transparency.tree_head_signer import TreeHeadOptions

SETTINGS_PREFIX = "ORDERCTL_KERNEL_"
RUN_KEYS = ("log", "exchange", "venue", "address", "external_orders", "tape", "symbol", "speed", "seed", "journal",
            "markets", "notes", "note_key", "note_events", "note_every", "log_format", "log_level", "metrics_port",
            "metrics_host")  # fmt: skip
"""Settings of a file beside its tables `kernel` and `limits`."""


def read_config(path: str | Path) -> dict[str, Any]:
    """Read a TOML file: the options of `run`, a table `kernel` of settings, a table `limits` of pre-trade limits.

    `[limits]` applies to every symbol, `[limits.symbols.BTCUSDT]` overrides it for one. Amounts are decimals in quotes,
    in the symbol's own units: scales are not known yet. Raises `ValidationError` if it is unreadable or has unknown
    keys.
    """
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ValidationError(f"the configuration {path} cannot be read: {problem}") from problem
    known = {*RUN_KEYS, "kernel", "limits"}
    wrong = [(key, known) for key in found if key not in known]
    table = found.get("kernel", {})
    if not isinstance(table, dict):
        raise ValidationError(f"the configuration {path}: [kernel] must be a table of settings")
    if "limits" in table:
        raise ValidationError(f"the configuration {path}: move the limits from [kernel] to the table [limits]")
    limits_of(found.get("limits", {}), f"the configuration {path}")
    if lists := [key for key, value in found.items() if key in RUN_KEYS and not isinstance(value, str | int | float)]:
        text = "{field} must be {limit}"
        raise ValidationError(
            f"the configuration {path} is not valid",
            [Violation(key, "type", "text or a number", "", text) for key in lists],
        )
    wrong += [
        (f"kernel.{key}", set(KernelSettings.model_fields)) for key in table if key not in KernelSettings.model_fields
    ]
    if wrong:
        text = "{field} is not a known setting; known settings: {limit}"
        raise ValidationError(
            f"the configuration {path} is not valid",
            [Violation(key, "key", ", ".join(sorted(names)), "", text) for key, names in wrong],
        )
    return found


def limits_of(table: Any, source: str) -> LimitSettings:
    """Convert the table `limits` to settings. Raises `ValidationError`."""
    if not isinstance(table, dict):
        raise ValidationError(f"{source}: [limits] must be a table of limits")
    default = {key: value for key, value in table.items() if key != "symbols"}
    try:
        return LimitSettings.model_validate({"default": default, "symbols": table.get("symbols", {})})
    except pydantic.ValidationError as problem:
        found = [
            replace(item, field=f"limits.{item.field.removeprefix('default.')}") for item in violations_of(problem)
        ]
        raise ValidationError(f"the limits of {source} are not valid", found) from problem


def settings_over(
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    limits: Mapping[str, Any] | None = None,
    external_orders: str | None = None,
) -> KernelSettings:
    """Combine an option, environment variables, a file's tables and the defaults, in this order of precedence.

    Raises:
        ValidationError: A variable with the prefix names no setting, or a value is not valid.
    """
    if limits is not None:
        table = {**table, "limits": limits_of(limits, "the configuration")}
    in_environment = {name.upper() for name in environ if name.upper().startswith(SETTINGS_PREFIX)}
    known = {SETTINGS_PREFIX + name.upper() for name in KernelSettings.model_fields}
    if unknown := sorted(in_environment - known):
        text = "environment variable {field} names no setting: `orderctl explain settings` lists them"
        raise ValidationError(violations=[Violation(name, "variable", "", "", text) for name in unknown])
    options = {key: value for key, value in table.items() if SETTINGS_PREFIX + key.upper() not in in_environment}
    if external_orders is not None:
        options["external_orders"] = ExternalOrderPolicy(external_orders.upper())
    return KernelSettings(**options)


def notes_of(
    *, notes_directory: str | None, note_keys: Sequence[str], note_events: int, note_every: float
) -> TreeHeadOptions | None:
    """Return how signed tree heads are written; None without a directory. Raises `ValidationError` for a directory
    without a key or the reverse."""
    if notes_directory is None and not note_keys:
        return None
    if notes_directory is None:
        raise ValidationError("--note-key needs --notes DIR: where the signed tree heads are written")
    keys = signer_keys(note_keys)
    return TreeHeadOptions(directory=Path(notes_directory), keys=keys, every_events=note_events, every_s=note_every)
