"""The rules. Where bootc's container lint has the same one, it has bootc's name."""

from __future__ import annotations

from compose.findings import Level, Rule, by_id

RULES = by_id(
    Rule(
        id="kernel",
        level=Level.ERROR,
        summary="Not exactly one kernel in /usr/lib/modules/KVER/vmlinuz",
        advice="add one kernel package; for an image that is not booted set `container: true`",
    ),
    Rule(
        id="boot-checksums",
        level=Level.ERROR,
        summary="Kernel and initramfs in /usr/lib/ostree-boot that do not belong together",
        advice="remove what packages or scripts put there; boot-location: new fills it",
    ),
    Rule(
        id="vmlinuz-hmac",
        level=Level.WARNING,
        summary="A kernel whose checksum file names it by a path: it does not boot in FIPS mode",
        advice="leave the file to the compose, which makes the path relative",
    ),
    Rule(
        id="os-release",
        level=Level.ERROR,
        summary="No os-release with PRETTY_NAME or ID: the boot menu needs a name",
        advice="add the distribution's release package",
    ),
    Rule(
        id="etc-usretc",
        level=Level.ERROR,
        summary="/etc beside /usr/etc, or no /usr/etc",
        advice="put defaults into /etc before postprocessing, into /usr/etc afterwards",
    ),
    Rule(
        id="api-base-directories",
        level=Level.ERROR,
        summary="A directory that the running system mounts something on is missing or not empty",
        advice="leave /dev, /proc, /run, /sys and /tmp alone in scripts",
    ),
    Rule(
        id="baseimage-root",
        level=Level.ERROR,
        summary="/sysroot or /ostree is not what a deployment needs",
        advice="leave /sysroot empty and /ostree a link to sysroot/ostree",
    ),
    Rule(
        id="var-content",
        level=Level.ERROR,
        summary="Content in /var, which clients never see after the first deployment",
        advice="put it into /usr, and make directories with tmpfiles.d",
    ),
    Rule(
        id="nonempty-boot",
        level=Level.ERROR,
        summary="Content in /boot, which belongs to the machine",
        advice="the kernel's place is /usr/lib/modules/KVER",
    ),
    Rule(
        id="shadow-mode",
        level=Level.ERROR,
        summary="A shadow file that somebody could read one day",
        advice="its mode must be 0000",
    ),
    Rule(
        id="unlabelled",
        level=Level.ERROR,
        summary="Files without an SELinux label in a tree that has labels",
        advice="compose the tree anew: labels are set for all of it",
    ),
    Rule(
        id="label",
        level=Level.ERROR,
        summary="A label that is not what the policy in the tree says: an enforcing client refuses access, or relabels",
        advice="compose the tree anew; a label of your own belongs into the policy (file_contexts.local)",
    ),
    Rule(
        id="machine-id",
        level=Level.ERROR,
        summary="A machine-id in the image, which all machines would share",
        advice="leave /etc/machine-id empty, or remove it (machineid-compat)",
    ),
    Rule(
        id="bootc-kargs",
        level=Level.ERROR,
        summary="A file of kernel arguments that bootc cannot read",
        advice='write /usr/lib/bootc/kargs.d/*.toml with kargs = ["..."]',
    ),
    Rule(
        id="commit-metadata",
        level=Level.ERROR,
        summary="Metadata of the commit that contradicts its tree",
        advice="compose again; do not set these keys by hand",
    ),
    Rule(
        id="toplevel-links",
        level=Level.WARNING,
        summary="A directory of the top level that should lead into /var",
        advice="leave it to the compose, or make the root transient",
    ),
    Rule(
        id="toplevel-targets",
        level=Level.WARNING,
        summary="A link of the top level that leads nowhere on a client whose /var is new",
        advice="make its target with a line in /usr/lib/tmpfiles.d",
    ),
    Rule(
        id="usrmove",
        level=Level.WARNING,
        summary="/bin, /sbin, /lib or /lib64 is no link into /usr",
        advice="use a filesystem package that has them merged",
    ),
    Rule(
        id="initramfs",
        level=Level.WARNING,
        summary="No initramfs that finds an OSTree deployment",
        advice="add dracut and dracut's ostree module (package ostree); drop no-initramfs",
    ),
    Rule(
        id="baseimage-composefs",
        level=Level.NOTE,
        summary="composefs is not enabled in prepare-root.conf",
        advice="for bootc: [composefs] enabled = true in /usr/lib/ostree/prepare-root.conf",
    ),
    Rule(
        id="composefs-digest",
        level=Level.WARNING,
        summary="composefs is `signed` in prepare-root.conf, and the commit has no composefs digest: clients refuse to boot it",
        advice="compose again with ex-integrity.composefs=yes in the repository's config (that of an image: "
        "CACHEDIR/image-repo/config)",
    ),
    Rule(
        id="buildah-injected",
        level=Level.WARNING,
        summary="An empty /etc/hostname or /etc/resolv.conf, as tools that build containers leave it behind",
        advice="remove it in postprocess",
    ),
    Rule(
        id="whiteout",
        level=Level.WARNING,
        summary="A file whose name begins with .wh.: in a container image it deletes another",
        advice="rename it",
    ),
    Rule(
        id="policy-store",
        level=Level.WARNING,
        summary="An SELinux policy whose modules are in /var, or not where clients look: they cannot rebuild it",
        advice="leave it where the package puts it: the compose moves it to /etc/selinux",
    ),
    Rule(
        id="policy-aliases",
        level=Level.WARNING,
        summary="A policy that does not know where OSTree has /etc and home directories: restorecon gives wrong labels",
        advice="leave file_contexts.subs_dist to the compose, or add /usr/etc /etc and /home /var/home",
    ),
    Rule(
        id="accounts",
        level=Level.WARNING,
        summary="System accounts that programs on the client will not find",
        advice="add nss-altfiles, and leave altfiles in /etc/nsswitch.conf",
    ),
    Rule(
        id="sysusers",
        level=Level.WARNING,
        summary="Accounts in /etc alone, which clients that have changed the file never get",
        advice="declare them in /usr/lib/sysusers.d, or leave /etc/passwd and /etc/group to the compose",
    ),
    Rule(
        id="etc-uid-drift",
        level=Level.NOTE,
        summary="Files in /etc of users or groups whose number may be another in the next image",
        advice="id-lock keeps the numbers; or fix them in sysusers.d, or chown at boot with a z line of tmpfiles.d",
    ),
    Rule(
        id="rpmdb",
        level=Level.WARNING,
        summary="No rpm database where clients look for it, or nothing that leads there: they cannot list or layer packages",
        advice="leave /usr/share/rpm as the compose makes it",
    ),
    Rule(
        id="package-list",
        level=Level.WARNING,
        summary="No list of packages in the commit: clients check out the rpm database to see what changed",
        advice="compose it with compose tree or compose commit",
    ),
    Rule(
        id="bootable",
        level=Level.WARNING,
        summary="A kernel in a commit that is not marked as one to boot",
        advice="compose it with compose tree or compose commit, without container: true",
    ),
    Rule(
        id="summary",
        level=Level.WARNING,
        summary="The repository's summary says another commit for the ref: clients that read it get that",
        advice="ostree summary -u, and sign it again",
    ),
    Rule(
        id="repo-mode",
        level=Level.NOTE,
        summary="A repository that clients cannot pull from over HTTP",
        advice="ostree pull-local into one of mode archive, and serve that",
    ),
    Rule(
        id="world-writable",
        level=Level.WARNING,
        summary="A file or directory that anybody may write to",
        advice="chmod o-w, or the sticky bit for a directory",
    ),
)
