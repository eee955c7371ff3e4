"""The running kernel, from the lowest layer to the highest:

- `account_drift`: compares the venue's account with the log
- `external_orders`: records, adopts or cancels orders that no intent owns
- `venue_session`: keeps the leader's connection to the venue and records its reports
- `dead_man_switch`: cancels the orders of owners that miss their heartbeat
- `election`: acquires the lease and raises the epoch
- `leader`: what a kernel with a venue does while it leads
- `kernel_runtime`: applies the log, and runs the leader
- `composition`: creates a kernel's parts and connects them
"""
