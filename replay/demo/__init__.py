"""demo

- `checks`: What the demonstration proves: that the log is sound, and that it is what the exchange knows.
- `processes`: The processes of the demonstration: a paper exchange and a kernel, started through the command line.
- `scenario`: The demonstration: a strategy, a kernel and an exchange as three processes; a lost answer, a crash,
  recovery, proof.
"""
