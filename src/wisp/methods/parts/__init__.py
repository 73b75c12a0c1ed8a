"""What several methods are made of; knows no method."""
