"""Scores of pixels and of instances: counted by tissue, averaged as their names say."""
