"""Shipped fakes: they run the same contract tests as the real things."""
