"""Lightning modules, checkpoints and callbacks; they are handed networks and build none."""
