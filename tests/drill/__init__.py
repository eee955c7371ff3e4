"""The drill: real processes under steady load, killed, frozen, cut off and deprived of their database at random.

`python -m tests.drill --minutes M` runs it, `tests/integration/test_drill.py` runs its one-minute form.

    drill           `drill(plan)`: starts everything, runs crew and acts, waits until all is well again, has it audited
    acts            what is done to the processes, under a seed
    cluster         the processes: two kernels, an exchange, a PostgreSQL server, with a tap and a wire for each kernel
    tap             between a kernel and the exchange: sees each request before the exchange has it, and can cut
    database_wire   between a kernel and PostgreSQL: can cut in the middle of a commit
    crew            the strategies: place, cancel, read and retry orders
    witness         reads the log's rows and the exchange's truth by itself, and hands them to the auditor in their order
    rows            the log's rows, straight from the database
    report          what was done and what came of it

The auditor is that of the simulation: it has no code in common with what it watches.
"""
