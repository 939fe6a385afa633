"""Cell segmentation on frozen pathology encoders, for H&E and spatial proteomics."""

__version__ = "0.1.0"
