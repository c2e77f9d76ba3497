"""EDGE: a GPU host over the system's SSH, where the vfio-kit that is installed there does the work.

The hypervisor's own remote protocol could start a domain, but not reserve hugepages, write a seed
or keep a journal. So the whole command runs on that host, with its journal and its locks.
"""
