"""Geometry of label images: what networks are taught about instances, and how instances come back."""
