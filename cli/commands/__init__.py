"""The commands, a module for each: what it takes, what it asks the daemon, what it prints."""
