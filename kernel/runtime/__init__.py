"""runtime

- `account_drift`: What the venue says of the account, against what the log comes to: balances and positions that
  nothing explains.
- `composition`: Puts a kernel together: the one place where its parts get their ports.
- `dead_man_switch`: Cancel-on-silence: owners say that they are alive, and the leader cancels the orders of those
  that stop saying so.
- `election`: Who leads: hold the lease, raise the epoch, act until either is lost.
- `external_orders`: Orders that are nobody's intent: recorded, and left alone, adopted or canceled, as the settings
  say.
- `kernel_runtime`: The kernel's runtime: one reader that applies the log, and, with a venue, the leader's work.
- `leader`: What a kernel with a venue does while it leads: it says so in the log, reconciles, and keeps a session
  with the venue.
- `venue_session`: The leader's session with the venue: connect, hear its reports, ask for everything, and begin
  again when it is lost.
"""
