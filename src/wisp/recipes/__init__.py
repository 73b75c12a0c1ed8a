"""Functions that return a Run: one per row of a table."""
