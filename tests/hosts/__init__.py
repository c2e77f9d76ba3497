"""Machines of many kinds, one TOML file each, and what writes them as sysfs and procfs."""
