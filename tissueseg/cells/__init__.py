"""From maps to the cells of a whole tissue: block by block, on worker processes, in one order."""
