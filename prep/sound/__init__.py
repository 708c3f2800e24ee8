"""Sound as methods are fed with it: named features, and the columns of them that belong to a frame."""
