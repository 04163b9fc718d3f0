"""The HTTP interface over a Unix socket."""
