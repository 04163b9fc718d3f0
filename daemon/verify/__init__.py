"""The disk, the mapping and the vectors held against one another, on a library that goes on living."""
