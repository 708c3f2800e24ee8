"""Clips as data: what is to be made or scored, from which files, under which protocol."""
