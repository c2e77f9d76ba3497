"""Where a command's context (click's `ctx.meta`) keeps which machine was named."""

SNAPSHOT_OF = "vfio_kit.from"
"""--from: the snapshot's path."""

CONNECTED_TO = "vfio_kit.connect"
"""--connect: the host, a `remote.uri.RemoteHost`."""
