"""Encoders to numbers."""
