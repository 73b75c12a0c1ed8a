"""Speed side by side, receipts of whole recipes, and the tables made of them. Run as `python -m benchmarks.NAME`."""
