"""Zarr on disk: tissue stores, their layout, the embedded demo and the sources they come from."""
