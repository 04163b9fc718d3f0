"""The checks, a module each: `check(context)` yields what it finds, and says so where all is as it should be."""
