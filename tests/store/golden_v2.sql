-- A database of schema 2. Never changed: it stands for those that users have.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL,
    distro TEXT NOT NULL,
    architecture TEXT NOT NULL,
    description TEXT NOT NULL,
    provenance TEXT NOT NULL,
    kernel_reference TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    working_folder TEXT NOT NULL,
    run_user TEXT NOT NULL
) STRICT;
INSERT INTO images VALUES('aaaaaaaaaaaa','debian-bookworm','catalog:debian-bookworm','debian','amd64','Debian 12','signed archive','debian-cloud',1073741824,1000,'ready','/srv','1000:1000');
CREATE TABLE image_words (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    list TEXT NOT NULL,
    position INTEGER NOT NULL,
    word TEXT NOT NULL,
    PRIMARY KEY (image_id, list, position)
) STRICT, WITHOUT ROWID;
INSERT INTO image_words VALUES('aaaaaaaaaaaa','command',0,'sh');
INSERT INTO image_words VALUES('aaaaaaaaaaaa','command',1,'-c');
INSERT INTO image_words VALUES('aaaaaaaaaaaa','command',2,'');
INSERT INTO image_words VALUES('aaaaaaaaaaaa','entrypoint',0,'/init');
INSERT INTO image_words VALUES('aaaaaaaaaaaa','environment',0,'A=1');
INSERT INTO image_words VALUES('aaaaaaaaaaaa','environment',1,'B=two words');
CREATE TABLE kernels (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    reference TEXT NOT NULL,
    architecture TEXT NOT NULL,
    description TEXT NOT NULL,
    provenance TEXT NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT;
INSERT INTO kernels VALUES('bbbbbbbbbbbb','debian-cloud','6.1.0-1-cloud-amd64','catalog:debian-cloud','amd64','Debian''s cloud kernel','signed archive',94371840,1001,'ready');
CREATE TABLE machines (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL,
    image_id TEXT NOT NULL REFERENCES images(id),
    kernel TEXT NOT NULL,
    kernel_id TEXT NOT NULL REFERENCES kernels(id),
    backend TEXT NOT NULL,
    network TEXT NOT NULL,
    storage TEXT NOT NULL,
    mac TEXT NOT NULL,
    state TEXT NOT NULL,
    error_reason TEXT NOT NULL,
    vcpus INTEGER NOT NULL,
    memory INTEGER NOT NULL,
    disk_size INTEGER NOT NULL,
    system_overlay_size INTEGER NOT NULL,
    nat INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    stopped_at INTEGER,
    pid INTEGER,
    pid_start_time INTEGER,
    backend_state TEXT,
    workspace_guest_path TEXT,
    workspace_source TEXT,
    workspace_head TEXT,
    workspace_prepared_at INTEGER,
    ssh_host_key TEXT NOT NULL
, workspace_base TEXT, workspace_branch TEXT, workspace_mode TEXT, workspace_has_untracked INTEGER, workspace_is_readonly INTEGER, workspace_fingerprint TEXT) STRICT;
INSERT INTO machines VALUES('000000000001','bare','debian-bookworm','aaaaaaaaaaaa','debian-cloud','bbbbbbbbbbbb','vmm-qemu','net-user','storage-file','02:00:00:00:00:01','error','it''s broken',2,2147483648,8589934592,9663676416,0,5000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO machines VALUES('000000000002','full','debian-bookworm','aaaaaaaaaaaa','debian-cloud','bbbbbbbbbbbb','vmm-qemu','net-user','storage-file','02:00:00:00:00:02','running','',2,2147483648,8589934592,9663676416,1,5000,2000,1500,4711,123456789,replace('qmp=/run/x\n"quoted"','\n',char(10)),'/root/repo','/home/ü/repo','0123abcd',2001,'ssh-ed25519 AAAAC3Nz','89ef4567','fix','full-copy',1,1,'42');
CREATE TABLE links (
    vm TEXT PRIMARY KEY REFERENCES machines(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    device TEXT NOT NULL,
    mac TEXT NOT NULL,
    address TEXT NOT NULL,
    gateway TEXT NOT NULL,
    name_server TEXT NOT NULL,
    nat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO links VALUES('000000000002','user','','02:00:00:00:00:02','10.0.2.15/24','10.0.2.2','10.0.2.3',1);
CREATE TABLE forwards (
    vm TEXT NOT NULL REFERENCES links(vm) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    host_address TEXT NOT NULL,
    host_port INTEGER NOT NULL,
    guest_port INTEGER NOT NULL,
    PRIMARY KEY (vm, position)
) STRICT, WITHOUT ROWID;
INSERT INTO forwards VALUES('000000000002',0,'127.0.0.1',40022,22);
INSERT INTO forwards VALUES('000000000002',1,'127.0.0.1',40080,80);
CREATE TABLE volumes (
    vm TEXT NOT NULL REFERENCES machines(id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    path TEXT NOT NULL,
    format TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (vm, role)
) STRICT, WITHOUT ROWID;
INSERT INTO volumes VALUES('000000000002','root','/s/root.qcow2','qcow2',9663676416);
INSERT INTO volumes VALUES('000000000002','work','/s/work.raw','raw',8589934592);
CREATE TABLE leases (
    address INTEGER PRIMARY KEY,
    vm TEXT UNIQUE REFERENCES machines(id),
    released_at INTEGER
) STRICT;
INSERT INTO leases VALUES(2886729730,'000000000002',NULL);
INSERT INTO leases VALUES(2886729731,NULL,5000);
CREATE TABLE host_resources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    vm TEXT NOT NULL REFERENCES machines(id),
    kind TEXT NOT NULL,
    plugin TEXT NOT NULL,
    detail TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
INSERT INTO host_resources VALUES(1,'000000000002','volume','storage-file','root',5000);
INSERT INTO host_resources VALUES(2,'000000000002','file','','/s/initrd',5000);
CREATE TABLE operations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome TEXT NOT NULL,
    error TEXT NOT NULL
) STRICT;
INSERT INTO operations VALUES(1,'vm.create','000000000002',5000,5000,'failed','no space');
INSERT INTO operations VALUES(2,'image.pull','x',5000,NULL,'running','');
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('host_resources',2);
INSERT INTO sqlite_sequence VALUES('operations',2);
CREATE INDEX machines_by_image ON machines(image_id);
CREATE INDEX machines_by_kernel ON machines(kernel_id);
CREATE INDEX host_resources_by_vm ON host_resources(vm);
COMMIT;
PRAGMA application_id = 1112426322;
PRAGMA user_version = 2;
