# Leaves boot/vmlinuz-VERSION and lib/modules/VERSION, with the indices that modprobe needs, and
# nothing else.
set -eu
mkdir "$1/tree"
dpkg-deb --extract "$1"/var/cache/apt/archives/*.deb "$1/tree"
find "$1" -mindepth 1 -maxdepth 1 ! -name tree -exec rm -rf {} +
cd "$1/tree"
for modules in usr/lib/modules lib/modules; do
    if test -d "$modules"; then mv "$modules" "$1/modules"; fi
done
mkdir "$1/boot" "$1/lib"
mv boot/vmlinuz-* "$1/boot/"
mv "$1/modules" "$1/lib/"
rm -rf "$1/tree"
for version in "$1"/lib/modules/*; do
    depmod --basedir "$1" "${version##*/}"
done
