"""The systems that the papers compare with, in the same form as the methods."""
