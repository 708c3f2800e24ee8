"""The sound input of methods: named features, and which of their columns belong to a frame."""
