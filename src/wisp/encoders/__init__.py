"""Views to features."""
