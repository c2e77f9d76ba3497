
# Whether the driver builds for a kernel: one of the system's own series, with all its parts.
fits() { # KERNEL
  local ending
  [[ $1 == "$KERNEL_SERIES"* ]] || return 1
  for ending in "${KERNEL_UNFIT[@]}"; do
    [[ $1 != *"$ending" ]] || return 1
  done
}

has_headers() { # KERNEL
  [ -e "$R/lib/modules/$1/build/.config" ] && return 0
  refresh
  apt-cache "${APT[@]}" show "linux-headers-$1" > /dev/null 2>&1
}

# The kernel that the system's own metapackage stands for.
kernel_of() { # METAPACKAGE
  dpkg-query -W -f '${Depends}' "$1" | sed 's/[,|]/\n/g' \
    | sed -n 's/^ *linux-image-\(unsigned-\)\?\([0-9][^ ]*\).*/\2/p' | head -n 1
}

# TARGET is the kernel that will run: the one that does, or where that will not do the system's own.
step_kernel() {
  local running
  running=$(uname -r)
  # In a chroot the kernel that runs is none of this system's.
  if [ -d "$R/lib/modules/$running" ] && fits "$running" && has_headers "$running"; then
    TARGET=$running
    return 0
  fi
  say "the kernel $running will not do: it is not of this system's $KERNEL_SERIES series, or has no headers here"
  install_packages "$KERNEL_PACKAGE"
  TARGET=$(kernel_of "$KERNEL_PACKAGE")
  [ -n "$TARGET" ] || die "$KERNEL_PACKAGE names no kernel"
  fits "$TARGET" || die "$KERNEL_PACKAGE is $TARGET, and the driver is to be built for $KERNEL_SERIES"
  [ "$TARGET" = "$running" ] || boot_by_default "$TARGET"
}

# GRUB takes the newest kernel unless it is told another one. A guest that is booted directly has no
# GRUB, and no choice either: the host hands it its kernel.
boot_by_default() { # KERNEL
  local menu=$R/boot/grub/grub.cfg entry submenu
  command -v update-grub > /dev/null && [ -f "$menu" ] || return 0
  update-grub
  entry=$(sed -n "s/.*menuentry_id_option '\(gnulinux-$1-advanced-[^']*\)'.*/\1/p" "$menu" | head -n 1)
  submenu=$(sed -n "s/^submenu .*menuentry_id_option '\([^']*\)'.*/\1/p" "$menu" | head -n 1)
  [ -n "$entry" ] || { say "GRUB has no entry for $1; its first one boots"; return 0; }
  mkdir -p "$R/etc/default/grub.d"
  echo "GRUB_DEFAULT='${submenu:+$submenu>}$entry'" > "$R/etc/default/grub.d/90-vfio-kit.cfg"
  update-grub
}

# The compiler that built the kernel builds its modules.
compiler_of() { # KERNEL
  sed -n 's/^CONFIG_CC_VERSION_TEXT="\(x86_64-linux-gnu-\)\?\([^ "]*\).*/\2/p' "$R/lib/modules/$1/build/.config"
}

step_headers() {
  local compiler
  install_packages "linux-headers-$TARGET" "${COMPILERS[@]}"
  [ -e "$R/lib/modules/$TARGET/build/.config" ] \
    || die "linux-headers-$TARGET is installed, and /lib/modules/$TARGET/build leads nowhere"
  compiler=$(compiler_of "$TARGET")
  [ -z "$compiler" ] || command -v "$compiler" > /dev/null || install_packages "$compiler"
}
