"""The command line. Anyone runs it."""
