"""Clips as data: what is generated or scored, from which files, under which protocol."""
