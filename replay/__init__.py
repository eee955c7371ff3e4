"""Reading history."""
