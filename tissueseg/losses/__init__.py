"""Losses on named heads, and their weighted sum."""
