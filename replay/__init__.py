"""Reading history: everything that begins with the log from position 1.

`recovery`: the composition root, `open_kernel`, which folds the log and starts the kernel on it.
`views`: what the CLI prints, as functions that a library user can call too.
"""

from replay.recovery import open_kernel

__all__ = ["open_kernel"]
