"""Input that a lab may hand to `prepare` by mistake, and what must be said of it."""
