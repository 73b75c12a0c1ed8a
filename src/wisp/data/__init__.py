"""Images to views."""
