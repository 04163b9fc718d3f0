"""Drills: what a library lives through, done to an installed lookalike with real stores, and judged by an oracle of their own."""
