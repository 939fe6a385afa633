"""A comparison of arms as a page, Markdown, CSV and JSON."""
