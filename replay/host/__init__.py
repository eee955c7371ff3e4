"""Hosting a kernel: composition, processes, configuration, probes.

From the lowest layer to the highest:

- `bootstrap`: `open_kernel`, the composition root.
- `blocking`: `connect`, a kernel for callers without an event loop.
- `config`: a kernel process's settings from TOML, environment and options.
- `venue_factory`: the venue that a process trades at.
- `process_log`: the process's own log on stderr.
- `probes`: the pages /healthz, /readyz and /metrics.
- `http_server`: the HTTP server (Starlette and uvicorn).
- `serving`: a socket for the pages, bound early.
- `run`: the process of `run`.
"""
