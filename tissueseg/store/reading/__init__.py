"""Image files, arrays and tables as they lie on disk: opened, checked and decoded."""
