"""The rules for trees and commits. A rule that `bootc container lint` has too has bootc's name."""

from __future__ import annotations

from compose.findings import Level, Rule, by_id

RULES = by_id(
    Rule(
        id="kernel",
        level=Level.ERROR,
        summary="No kernel, or several, in /usr/lib/modules/KVER/vmlinuz",
        advice="add exactly one kernel package; set `container: true` for an image that is not booted",
    ),
    Rule(
        id="boot-checksums",
        level=Level.ERROR,
        summary="A kernel and an initramfs in /usr/lib/ostree-boot that do not belong together",
        advice="remove the files that packages or scripts put there; boot-location: new fills the directory",
    ),
    Rule(
        id="vmlinuz-hmac",
        level=Level.WARNING,
        summary="A kernel checksum file that names the kernel by its path, so that it does not boot in FIPS mode",
        advice="leave the file alone: composing makes the path relative",
    ),
    Rule(
        id="os-release",
        level=Level.ERROR,
        summary="No os-release with PRETTY_NAME or ID, which name the system in the boot menu",
        advice="add the distribution's release package",
    ),
    Rule(
        id="etc-usretc",
        level=Level.ERROR,
        summary="/etc besides /usr/etc, or no /usr/etc",
        advice="write defaults to /etc before postprocessing and to /usr/etc afterwards",
    ),
    Rule(
        id="api-base-directories",
        level=Level.ERROR,
        summary="A mount point of the running system that is missing or not empty",
        advice="leave /dev, /proc, /run, /sys and /tmp alone in scripts",
    ),
    Rule(
        id="baseimage-root",
        level=Level.ERROR,
        summary="A /sysroot or /ostree that does not suit a deployment",
        advice="leave /sysroot empty and /ostree a link to sysroot/ostree",
    ),
    Rule(
        id="var-content",
        level=Level.ERROR,
        summary="Content in /var, which clients ignore after the first deployment",
        advice="move it to /usr, and create directories with tmpfiles.d",
    ),
    Rule(
        id="nonempty-boot",
        level=Level.ERROR,
        summary="Content in /boot, which belongs to the machine",
        advice="put the kernel into /usr/lib/modules/KVER",
    ),
    Rule(
        id="shadow-mode",
        level=Level.ERROR,
        summary="A shadow file that others than root, or the group shadow, may read or change",
        advice="set its mode to 0000",
    ),
    Rule(
        id="unlabelled",
        level=Level.ERROR,
        summary="Files without an SELinux label in a tree that has labels",
        advice="compose the tree again, which labels all files",
    ),
    Rule(
        id="label",
        level=Level.ERROR,
        summary="An SELinux label that differs from the tree's policy: an enforcing client denies access, or relabels",
        advice="compose the tree again; define labels of your own in the policy (file_contexts.local)",
    ),
    Rule(
        id="machine-id",
        level=Level.ERROR,
        summary="A machine ID in the image, which all machines would share",
        advice="leave /etc/machine-id empty, or remove it (machineid-compat)",
    ),
    Rule(
        id="bootc-kargs",
        level=Level.ERROR,
        summary="A kernel argument file that bootc cannot read",
        advice='write /usr/lib/bootc/kargs.d/*.toml with kargs = ["..."]',
    ),
    Rule(
        id="commit-metadata",
        level=Level.ERROR,
        summary="Commit metadata that contradicts the tree",
        advice="compose again; do not set these keys by hand",
    ),
    Rule(
        id="toplevel-links",
        level=Level.WARNING,
        summary="A top-level directory that should be a symlink into /var",
        advice="leave it to the compose, or make the root transient",
    ),
    Rule(
        id="toplevel-targets",
        level=Level.WARNING,
        summary="A top-level symlink that dangles on a client with a new /var",
        advice="create its target with a line in /usr/lib/tmpfiles.d",
    ),
    Rule(
        id="usrmove",
        level=Level.WARNING,
        summary="A /bin, /sbin, /lib or /lib64 that is not a symlink into /usr",
        advice="use a filesystem package with merged directories",
    ),
    Rule(
        id="initramfs",
        level=Level.WARNING,
        summary="No initramfs that can find an OSTree deployment",
        advice="add dracut and its ostree module (package ostree), and drop no-initramfs",
    ),
    Rule(
        id="baseimage-composefs",
        level=Level.NOTE,
        summary="composefs is not enabled in prepare-root.conf",
        advice="for bootc set enabled = true under [composefs] in /usr/lib/ostree/prepare-root.conf",
    ),
    Rule(
        id="composefs-digest",
        level=Level.WARNING,
        summary="composefs is `signed` in prepare-root.conf, but the commit has no composefs digest: clients refuse to boot it",
        advice="compose again with ex-integrity.composefs=yes in the repository's config (for an image: "
        "CACHEDIR/image-repo/config)",
    ),
    Rule(
        id="buildah-injected",
        level=Level.WARNING,
        summary="An empty /etc/hostname or /etc/resolv.conf, left behind by a tool that builds containers",
        advice="remove it in postprocess, or from the root directory before it becomes an image",
    ),
    Rule(
        id="whiteout",
        level=Level.WARNING,
        summary="A file whose name begins with .wh., which in a container image deletes another file",
        advice="rename it",
    ),
    Rule(
        id="policy-store",
        level=Level.WARNING,
        summary="SELinux policy modules in /var, or where clients do not look, so that they cannot rebuild the policy",
        advice="leave them where the package puts them: composing moves them to /etc/selinux",
    ),
    Rule(
        id="policy-aliases",
        level=Level.WARNING,
        summary="An SELinux policy without OSTree's paths for /etc and home directories: restorecon sets wrong labels",
        advice="leave file_contexts.subs_dist to the compose, or add the lines `/usr/etc /etc` and `/home /var/home`",
    ),
    Rule(
        id="accounts",
        level=Level.WARNING,
        summary="System accounts that programs on the client cannot find",
        advice="add nss-altfiles, and keep altfiles in /etc/nsswitch.conf",
    ),
    Rule(
        id="sysusers",
        level=Level.WARNING,
        summary="Accounts only in /etc, which clients with a locally modified file never get",
        advice="declare them in /usr/lib/sysusers.d, or leave /etc/passwd and /etc/group to the compose",
    ),
    Rule(
        id="etc-uid-drift",
        level=Level.NOTE,
        summary="Files in /etc owned by users or groups whose ids may differ in the next image",
        advice="pin the ids with id-lock or in sysusers.d, or set the owner at boot with a z line in tmpfiles.d",
    ),
    Rule(
        id="rpmdb",
        level=Level.WARNING,
        summary="No rpm database where clients look for it, so that they cannot list or layer packages",
        advice="leave /usr/share/rpm and the links to it as composing creates them",
    ),
    Rule(
        id="package-list",
        level=Level.WARNING,
        summary="No package list in the commit: clients must check out the rpm database to see what changed",
        advice="make the commit with compose tree or compose commit",
    ),
    Rule(
        id="bootable",
        level=Level.WARNING,
        summary="A kernel in a commit that is not marked as bootable",
        advice="make the commit with compose tree or compose commit, without container: true",
    ),
    Rule(
        id="summary",
        level=Level.WARNING,
        summary="A summary that lists another commit for the ref, which clients get instead",
        advice="run ostree summary -u, and sign the summary again",
    ),
    Rule(
        id="repo-mode",
        level=Level.NOTE,
        summary="A repository that clients cannot pull from over HTTP",
        advice="copy the commit into an archive repository with ostree pull-local, and serve that",
    ),
    Rule(
        id="world-writable",
        level=Level.WARNING,
        summary="A file or directory that is writable by everybody",
        advice="remove the permission with chmod o-w, or set the sticky bit of a directory",
    ),
)
