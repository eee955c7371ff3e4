"""The command line: help, output, bad inputs, and real processes on one log."""
