"""Exchanges: the port (`base`) and its adapters.

The kernel sees `Venue` alone. `paper` is the paper exchange, made of: `paper_rules` (who trades with whom; pure),
`paper_changes`, `paper_orders` and `paper_book` (state as a fold), `paper_market` (the tape's side of it), `paper_draft`,
`paper_checks`, `paper_rates`, `paper_amend`, `paper_groups`, `paper_stops` and `paper_stamps` (what a request would come
to), `paper_reports`, `paper_journal`, `paper_engine` (decides), `paper_exchange` (time, sessions, faults), `paper_faults`,
`paper_tape` (`paper_tape_maker`), `paper_config`, `paper_admin`, `paper_wire` and `paper_server` (the process),
`paper_client` and `paper_link` (the ways to it).
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
