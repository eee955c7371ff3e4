"""Trouble that users of other systems reported publicly, as scripts on virtual time: one module for each kind."""
