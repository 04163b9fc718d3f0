"""Installs lookaliked as a service of systemd: what would be done is made as a plan, shown, and then carried out."""
