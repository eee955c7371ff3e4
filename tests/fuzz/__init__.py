"""Fuzzing of everything that reads what others wrote: stored events, tapes, the wire, the journal, the command line.

Each property says: whatever comes in, out comes a value or one of the project's own errors, and nothing was written. Inputs
are derived from the tests' own text (no seed, no database), so that a run is the same each time;
`KERNEL_FUZZ_EXAMPLES=100000 pytest tests/fuzz` looks further. `mutations` has the inputs that several tests share.
"""
