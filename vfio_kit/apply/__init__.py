"""EDGE: changes the host: images, hugepages, libvirt, and the journal that undoes it."""
