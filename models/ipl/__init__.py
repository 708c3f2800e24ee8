"""IP-LAP: talking faces from landmark and appearance priors (Zhong et al., CVPR 2023)."""
