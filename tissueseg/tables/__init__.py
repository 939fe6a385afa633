"""Tissue stores as other tools want them: OME-Zarr pyramids, tables of cells, SpatialData."""
