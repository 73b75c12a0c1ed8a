"""More images of a task's classes, drawn by a text-to-image model."""
