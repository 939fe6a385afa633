"""Sources around sources: classes mapped and pixels resampled on their way into a store."""
