"""Answers as lines that a person reads. Pure: nothing is printed here, and the time is passed in."""
