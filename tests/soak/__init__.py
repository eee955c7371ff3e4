"""A soak: a kernel and a paper exchange at work for as long as is wanted, watched for what grows with time.

`python -m tests.soak --minutes M` runs it (`__main__`); `tests/integration/test_soak.py` runs a minute of it. `world` makes
the processes and the load, `gauges` reads what there is, `verdict` judges, `reference` folds the same log for comparison.
"""
