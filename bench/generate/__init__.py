"""Videos made by trained methods or by the official code of others."""
