"""Soak test: run a kernel and a paper exchange under load and check that nothing grows with time.

- `gauges`: read counts and memory of both processes.
- `world`: the exchange process and the load.
- `verdict`: judge the samples.
- `reference`: fold the same log in another process, for comparison.
- `soak`: one soak from start to verdict.

Run it with `python -m tests.soak --minutes M`; `tests/integration/test_soak.py` runs short forms.
"""
