"""Simulation of the whole kernel under seeded faults on virtual time, with an independent auditor.

`python -m tests.simulation --help` shows how to run it. `plan` writes the events of a run, from a seed or from text;
`world` has the processes, the lease, the log and the exchange; `player` plays the plan on the virtual time of `loop`;
`auditor` checks every invariant and imports nothing of the kernel; `hunt` plays many seeds; `shrink` cuts a failing run
short; `mutants` plants bugs to prove that they are found. `tests/scenarios/found/` keeps the bugs that were found.
"""
