"""Carrying what a library knows to another index, or to another place: export, import, relocation."""
