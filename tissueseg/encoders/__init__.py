"""Frozen encoders and the contract they keep."""
