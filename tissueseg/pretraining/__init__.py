"""Encoders that learn without labels: what is hidden of images, and networks that fill it in."""
