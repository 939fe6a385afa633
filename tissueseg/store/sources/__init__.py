"""Sources: where a tissue store is filled from, one file per kind of raw data."""
