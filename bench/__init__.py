"""The command, and everything that runs an experiment."""
