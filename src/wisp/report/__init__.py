"""Run folders to one page."""
