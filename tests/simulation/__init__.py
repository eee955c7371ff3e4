"""The whole kernel under seeded faults on virtual time, and an auditor that believes nobody.

`python -m tests.simulation --help` tells how to run it. `plan` writes what happens in a run, from a seed or from text;
`world` has the processes, the lease, the log and the exchange that it happens to; `player` plays it on the virtual time
of `loop`; `auditor` watches, and knows nothing of the kernel; `hunt` plays many; `shrink` cuts a failing run short;
`mutants` breaks the kernel on purpose, to see that it is noticed. `tests/scenarios/found/` keeps what was found and mended.
"""
