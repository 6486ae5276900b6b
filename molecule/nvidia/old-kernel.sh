#!/bin/bash
# Go back to a kernel that is no longer in the archive, nor are its headers, as with an old source image.
set -euo pipefail
kernel=6.1.0-1-cloud-amd64
folder=$(mktemp -d)

make_package() { # NAME DEPENDS
  mkdir -p "$folder/$1/DEBIAN"
  printf '%s\n' "Package: $1" "Version: 6.1.1-1" "Architecture: amd64" "Maintainer: No <no@body>" \
    "Depends: $2" "Description: stand-in" >"$folder/$1/DEBIAN/control"
  dpkg-deb --root-owner-group -Znone --build "$folder/$1" "$folder/$1.deb"
}

mkdir -p "$folder/linux-image-$kernel"/{boot,"usr/lib/modules/$kernel"}
touch "$folder/linux-image-$kernel/boot/vmlinuz-$kernel"
mapfile -t newer < <(dpkg-query --show --showformat '${Package}\n' 'linux-image-6*')
make_package "linux-image-$kernel" linux-base
make_package linux-image-cloud-amd64 "linux-image-$kernel"
dpkg --install "$folder"/*.deb
dpkg --purge "${newer[@]}"
ln --symbolic --force "boot/vmlinuz-$kernel" /vmlinuz
rm -r "$folder"
