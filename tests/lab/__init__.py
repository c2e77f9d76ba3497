"""A passthrough host without hardware: real kernels, real libvirt, emulated cards."""
