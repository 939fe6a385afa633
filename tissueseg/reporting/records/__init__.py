"""What finished runs measured, read from their folders alone."""
