"""Simulation of changed histories on a fork of a log.

From the lowest layer to the highest:

- `virtual_loop`: an event loop on virtual time.
- `venue_seed`: the paper exchange with the orders, balances and rules that a log records.
- `command_replay`: the commands of a log, changed and given to another kernel.
- `outcomes`: the outcome of a run, and a comparison of several.
- `simulation`: `what_if`, which forks a log, simulates and compares.
- `scenario_options`: the options of `orderctl what-if`.
"""
