"""A linear sync judge: canonical correlation of lip landmarks and sound."""
