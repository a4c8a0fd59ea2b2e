#!/bin/bash
# make_images.sh TOOL FOLDER: an OCI image of four layers, FOLDER/layout:image, made by buildah or umoci from
# a tree that usual programs change as root: what each layer removes and replaces is for the tool to say.
set -euo pipefail
umask 022
tool=$1
folder=$2
export TZ=UTC LC_ALL=C.UTF-8
weird=$'line\nfeed "quoted" \\ \xe9'

layer_1() { # as an installation leaves it
    mkdir -p usr/bin usr/lib usr/share/doc/{a,b,c}/deep etc/alternatives var/lib/data var/cache opt/app tmp home/joe dev
    ln -s usr/bin bin
    ln -s usr/lib lib
    chmod 1777 tmp
    chmod 2775 var/lib/data
    chown 1000:1000 home/joe
    for i in $(seq 200); do echo "documentation $i" > "usr/share/doc/a/deep/$i"; done
    for i in $(seq 60); do head -c $((i * 1000)) /dev/zero | tr '\0' "$(printf '\\%o' $((64 + i % 50)))" > "usr/lib/lib$i.so"; done
    head -c 3000000 /dev/urandom > usr/lib/large
    echo shell > usr/bin/sh
    chmod 755 usr/bin/sh
    cp usr/bin/sh usr/bin/sudo
    chmod 4755 usr/bin/sudo
    for link in perl perl5 perl5.36; do ln usr/bin/sh "usr/bin/$link"; done
    ln usr/lib/large usr/lib/large-too
    ln -s /etc/alternatives/vi usr/bin/vi
    ln -s /usr/bin/sh etc/alternatives/vi
    ln -s "$(printf 'x%.0s' $(seq 200))" etc/long-link
    ln etc/long-link etc/long-link-too
    echo root:x:0:0 > etc/passwd
    mkdir etc/becomes-file etc/stays etc/emptied
    touch etc/becomes-file/inside etc/stays/one etc/emptied/{x,y,z}
    echo file > etc/becomes-folder
    ln -s stays etc/becomes-real
    mknod dev/null c 1 3
    mknod dev/disk b 259 70000
    mkfifo -m 600 dev/pipe
    truncate -s 5000000 var/lib/sparse
    printf middle | dd of=var/lib/sparse bs=1 seek=2500000 conv=notrunc status=none
    touch "var/cache/$weird" $'var/cache/caf\xc3\xa9' $'var/cache/cafe\xcc\x81' var/cache/-dash
    mkdir "var/cache/folder $weird"
    touch "var/cache/folder $weird/in"
    setfattr -n user.note -v hello etc/passwd
    setfattr -n trusted.note -v 0x00ff0a3d etc/stays
    setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 usr/bin/sudo
    chown -h 3000000000:2000000000 etc/passwd
    chown -h 65534:65534 usr/bin/vi
    touch -h -d '2001-02-03 04:05:06.123456789' usr/bin/sh etc/long-link etc/passwd
    touch -d '1969-12-31 12:00:00.5' usr/lib/lib1.so
    touch -d '2100-01-01' usr/lib/lib2.so
}
layer_2() { # updates and deletes
    rm -r usr/share/doc/a etc/emptied usr/lib/lib{1..20}.so
    mkdir etc/emptied
    echo new > etc/emptied/new
    rm -r etc/becomes-file etc/becomes-folder etc/becomes-real
    echo now > etc/becomes-file
    mkdir etc/becomes-folder
    echo in > etc/becomes-folder/in
    mkdir etc/becomes-real
    echo real > etc/becomes-real/one
    rm usr/bin/perl5
    echo replaced > usr/lib/lib30.so.new
    mv usr/lib/lib30.so.new usr/lib/lib30.so
    chmod 600 usr/lib/lib31.so
    chown 7:8 usr/lib/lib32.so
    touch -d '2010-10-10 10:10:10.000000001' usr/lib/lib33.so
    echo more >> home/joe/.profile
    echo tool > bin/tool
    mknod dev/tty c 5 0
    rm dev/pipe
    setfattr -x user.note etc/passwd
    setfattr -n user.other -v more etc/passwd
    rm "var/cache/$weird"
    ln etc/becomes-file etc/new-link
    for i in $(seq 100); do mkdir -p "opt/app/node_modules/$i"; echo "$i" > "opt/app/node_modules/$i/index.js"; done
}
layer_3() { # back and forth
    rm -r etc/becomes-folder
    echo again > etc/becomes-folder
    rm etc/becomes-file
    mkdir etc/becomes-file
    rm usr/lib/large
    rm -r opt/app/node_modules/{1..50} usr/share/doc
    mkdir -p usr/share/doc/b
    echo back > usr/share/doc/b/back
    ln etc/new-link etc/third-link
    head -c 200000 /dev/urandom > opt/app/node_modules/60/index.js
    rm usr/lib/lib{40..50}.so
    rm -r tmp
    ln -s var/cache tmp
}
layer_4() { # an upper layer that only takes away
    rm -r opt usr/lib/large-too var/lib/sparse usr/bin/perl
    chmod 700 etc
}

make_by_umoci() {
    umoci init --layout "$folder/layout"
    umoci new --image "$folder/layout:image"
    for step in 1 2 3 4; do
        umoci unpack --image "$folder/layout:image" "$folder/bundle"
        (cd "$folder/bundle/rootfs" && "layer_$step")
        umoci repack --image "$folder/layout:image" "$folder/bundle"
        rm -r "$folder/bundle"
    done
}
make_by_buildah() {
    build() { buildah --root "$folder/storage" --runroot "$folder/run" --storage-driver vfs "$@"; }
    base=scratch
    for step in 1 2 3 4; do
        work=$(build from "$base")
        mount=$(build mount "$work")
        (cd "$mount" && "layer_$step")
        build commit -q "$work" "step-$step" >/dev/null
        build rm "$work" >/dev/null
        base=step-$step
    done
    build push -q "$base" "oci:$folder/layout:image"
    chmod -R u+rwX "$folder/storage"
}
"make_by_$tool"
