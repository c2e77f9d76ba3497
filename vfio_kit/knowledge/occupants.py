"""Processes and drivers that are known to have a GPU, and what makes them let go."""

SERVICES = {
    "nvidia-persiste": "systemctl stop nvidia-persistenced",
    "nv-hostengine": "systemctl stop nvidia-dcgm",
    "dcgm-exporter": "systemctl stop dcgm-exporter",
    "ollama": "systemctl stop ollama",
    "Xorg": "systemctl stop display-manager",
    "systemd-logind": "systemctl stop display-manager",
    "Xwayland": "systemctl stop display-manager",
    "gnome-shell": "systemctl stop display-manager",
    "kwin_wayland": "systemctl stop display-manager",
    "kwin_x11": "systemctl stop display-manager",
    "sddm-greeter": "systemctl stop display-manager",
    "pipewire": "systemctl --user stop pipewire.socket pipewire wireplumber",
    "wireplumber": "systemctl --user stop pipewire.socket pipewire wireplumber",
    "pulseaudio": "systemctl --user stop pulseaudio.socket pulseaudio",
}
"""A process's name as the kernel keeps it (15 characters) -> the command that ends it for good:
killed alone, a service comes back. Source: the units that these programs ship. systemd-logind opens
displays for the desktop, and closes them when that ends (org.freedesktop.login1(5), TakeDevice)."""

DRIVER_NOTES = {
    "nvidia": "end what uses the GPU before (nvidia-smi names it): unbinding nvidia waits for it "
    "without end",
    "nouveau": "nouveau may have a console on it, which goes with it",
    "amdgpu": "amdgpu may have a console on it, which goes with it; some cards do not come back "
    "without a host reboot",
    "i915": "i915 may have a console on it, which goes with it",
}
"""Driver -> what is worth knowing when it is unbound. Sources: kubevirt/kubevirt#8549,
joeknock90/Single-GPU-Passthrough#25, gnif/vendor-reset."""
