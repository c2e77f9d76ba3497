"""Why IOMMU groups are as they are, and what the devices in them are."""
