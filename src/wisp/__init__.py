"""Train small vision encoders without labels and get a stock model back."""

__version__ = "0.1.0"
