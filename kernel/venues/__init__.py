"""Exchanges: the port that the kernel uses, and its adapters.

- `base`: the port `Venue`, its capabilities, requests and reports.
- `paper`: the paper exchange, in process or as a process of its own.
"""

from kernel.platform.lazy_exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__)
