"""Every test of this project, a directory for each tier; helpers are importable from here."""
