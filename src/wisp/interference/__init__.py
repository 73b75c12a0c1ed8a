"""How networks that share weights disturb each other: what is kept of a training, and what it shows."""
