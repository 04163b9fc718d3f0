"""lookalike: asks a running lookaliked, and prints what it answers."""
