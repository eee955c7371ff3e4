"""whatif

- `command_replay`: The commands that a log has, to be given again to another kernel at the same instants: as they
  were, or changed.
- `outcomes`: What came of a run, and several of them side by side: orders, fills, positions with their profit,
  findings.
- `scenario_options`: `orderctl what-if` in words: what a person supposes made into changes, settings and faults,
  and played.
- `simulation`: `what_if`: a log up to a point, played on otherwise in memory, beside what happened and the same
  played on unchanged.
- `venue_seed`: The paper exchange as a log leaves a venue: its market, its rules, the orders that work there, the
  balances.
- `virtual_loop`: An event loop on virtual time: nothing is waited for, an hour passes as fast as what happens in it.
"""
