"""Data, not code: published tables, our results, regression expectations."""
