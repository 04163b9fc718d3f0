"""How long a path the system takes: a tree may be deeper than that, for its directories are opened one by one."""

MAX_BYTES = 4095
"""PATH_MAX of linux/limits.h, without the NUL at the end."""
PIECE_BYTES = 2048
"""A name has at most 255 bytes, so that a piece which reaches this length is far below the limit."""
