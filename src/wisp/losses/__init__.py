"""Embeddings to scalars: pure functions, float32 inside."""
