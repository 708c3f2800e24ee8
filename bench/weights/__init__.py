"""Pretrained networks: the registry, where the files are, how they are downloaded."""
