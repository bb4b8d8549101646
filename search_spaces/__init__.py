"""search_spaces: what can be searched, within which bounds, and how values are asked for."""
