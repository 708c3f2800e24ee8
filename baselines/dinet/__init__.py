"""DINet: the mouth of a large face, from deformed features of other pictures of it (Zhang et al., AAAI 2023)."""
