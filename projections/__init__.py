"""State derived from the log, and the diff between what is wanted and what is there."""
