"""A method to a checkpoint."""
