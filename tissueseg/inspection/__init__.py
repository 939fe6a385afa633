"""Looking through a written store for what is wrong with images, masks and cohort."""
