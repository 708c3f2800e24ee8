"""MediaPipe's face detectors and its mesh of 478 points, run by the suite itself.

The networks are those of MediaPipe 0.10.21 (:mod:`~prep.facemesh.weights`), the graphs around them are written anew and
give the same landmarks (:mod:`~prep.facemesh.detector`). On CPUs the networks run by kernels of our own
(:mod:`~prep.facemesh.kernels`), on other devices with torch (:mod:`~prep.facemesh.torch_form`).
"""
