"""G4G: alignment and deformation, a generic framework for talking faces (Zhang et al., arXiv 2402.18122)."""
