"""`orderctl demo`: a strategy, a kernel and an exchange as three processes; a lost answer, a crash and the recovery.

- `processes`: start and stop the child processes.
- `scenario`: the steps of the demo and its checks.
"""
