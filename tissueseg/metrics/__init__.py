"""Scores, pooled over every pixel of a split."""
