"""host

- `blocking`: A kernel for scripts and notebooks: the same API, but each call blocks for its answer.
- `bootstrap`: The composition root: a log, its state, and the kernel over them. There is one way to start, and it
  is to recover.
- `config`: The configuration of a kernel's process: a TOML file, environment variables and options, as settings.
- `http_server`: The HTTP server: Starlette and uvicorn on the kernel's own event loop, which does not answer when
  it stands still.
- `probes`: Whether a running kernel lives and acts, and its metrics as text: what `/healthz`, `/readyz` and
  `/metrics` say.
- `process_log`: A process's own log: one line a record on stderr, for a terminal or as JSON, that never holds the
  process up.
- `run`: The processes that run: a kernel that leads, and a paper exchange; each until a signal ends it in order.
- `serving`: Pages over HTTP, such as what a process says of itself: a socket that is bound early, and a server on
  it for a while.
- `venue_factory`: Which venue a kernel trades at: the paper exchange of a process, or one that runs elsewhere.
"""
