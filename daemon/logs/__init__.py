"""Log lines: to a terminal, to the journal of systemd, or as JSON; a flood of the same is one line with a count."""
