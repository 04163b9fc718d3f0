"""From image bytes to unit vectors."""
