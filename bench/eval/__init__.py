"""Scoring videos: planned, scored, summarised and written, in that order."""
