"""Encoders to files that others load."""
