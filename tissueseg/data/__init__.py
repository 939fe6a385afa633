"""Tiles, splits, normalisation and the datasets that stream them."""
