"""Tools for methods that go through landmarks: alignment to a mean face, modes of movement, smoothing, drawing."""
