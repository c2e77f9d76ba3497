"""EDGE: reads the machine: sysfs, procfs, firmware tables and udev names."""
