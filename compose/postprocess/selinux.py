"""SELinux configuration of the tree: labels for paths that OSTree moves, and module stores, which must not be in /var."""

from __future__ import annotations

import re

from compose.postprocess.contents import Contents, encode, lines_of, merge_into, read_text, resolve, rewrite, unlines
from compose.tree import Tree

WRITER = "step:selinux"
_CONFIG = "etc/selinux"
_STORES = "var/lib/selinux"
_SEMANAGE = f"{_CONFIG}/semanage.conf"
# rpm-ostree appends exactly this line on clients, whenever it layers packages, unless the file has it
_STORE_ROOT = "store-root=/etc/selinux"
_USERADD = "etc/default/useradd"
HOME = "/var/home"

# (path, path that it is labelled like): for what OSTree moves, unless the policy has an alias already
_ALIASES = (
    ("/home", HOME),
    ("/usr/etc", "/etc"),
    ("/usr/lib/opt", "/opt"),
    ("/var/mnt", "/mnt"),
    ("/var/opt", "/opt"),
    ("/var/roothome", "/root"),
    ("/var/srv", "/srv"),
    ("/var/usrlocal", "/usr/local"),
)


def policies(tree: Tree) -> tuple[str, ...]:
    """Names of the policies in the tree, such as "targeted"."""
    return tuple(
        name
        for name in tree.children(_CONFIG)
        if f"{_CONFIG}/{name}/contexts/files" in tree or f"{_CONFIG}/{name}/active/modules" in tree
    )


def set_home(tree: Tree, store: Contents) -> Tree:
    """Set /var/home as the parent of new users' home directories; genhomedircon reads this too."""
    text = read_text(tree, _USERADD, store)
    if text is None:
        return tree
    # a commented-out line stays: it shows the built-in value, /home
    lines = [line for line in lines_of(text) if not line.startswith("HOME=")]
    editor = tree.edit()
    rewrite(editor, resolve(tree, _USERADD), unlines([*lines, f"HOME={HOME}"]), store, writer="step:useradd")
    return editor.build()


def edit_aliases(tree: Tree, store: Contents) -> Tree:
    """Make the policies label /usr/etc like /etc, and home directories in /var/home.

    In policies that support OSTree, file_contexts.subs_dist says "/var/home /home". Here the reverse is needed, because the
    home directory rules themselves are for /var/home.
    """
    editor = tree.edit()
    for name in policies(tree):
        base = f"{_CONFIG}/{name}/contexts/files/file_contexts"
        path = resolve(tree, f"{base}.subs_dist")
        text = read_text(tree, path, store)
        if text is not None:
            rewrite(editor, path, unlines(_aliases(lines_of(text))), store, writer=WRITER)
        for homes in (f"{base}.homedirs", f"{_CONFIG}/{name}/active/file_contexts.homedirs"):
            text = read_text(tree, homes, store)
            if text is not None and rewrite(editor, resolve(tree, homes), encode(_homes(text)), store, writer=WRITER):
                # compiled from the old rules, but would be used: in a deployment both files have the same mtime
                editor.remove(f"{homes}.bin")
    return editor.build()


def _aliases(original: list[str]) -> list[str]:
    lines = [f"#{line}" if re.match(rf"{HOME}\s", line) else line for line in original]
    present = {line.split()[0] for line in lines if line.split() and not line.startswith("#")}
    added = [f"{alias} {path}" for alias, path in _ALIASES if alias not in present]
    for line in lines:
        words = line.split()
        # only one alias is applied to a path, so those of /etc/X are repeated for /usr/etc/X
        if len(words) == 2 and words[0].startswith("/etc/") and f"/usr{words[0]}" not in present:
            added.append(f"/usr{words[0]} {words[1]}")
    return [*lines, *added]


def _homes(text: str) -> str:
    """Rewrite genhomedircon's rules for /home to /var/home, because rebuilding the policy would take half a minute."""
    return re.sub(r"(?m)^/home(?=[/\s(])", HOME, text)


def move_store(tree: Tree, store: Contents) -> Tree:
    """Move module stores from /var/lib/selinux to /etc/selinux.

    Clients rebuild the policy from them, and /var is not part of the image.
    """
    editor = tree.edit()
    moved = False
    stores = tree.children(_STORES) if tree.is_dir(_STORES) else []
    for name in stores:
        if tree.is_dir(f"{_STORES}/{name}/active/modules"):
            merge_into(editor, f"{_STORES}/{name}", f"{_CONFIG}/{name}", writer=WRITER)
            moved = True
    if not moved:
        return tree
    editor.remove(_STORES)
    editor.add_symlink(_STORES, "../../etc/selinux", writer=WRITER)
    lines = lines_of(read_text(tree, _SEMANAGE, store) or "")
    if _STORE_ROOT not in lines:
        data = unlines([*(line for line in lines if not re.match(r"store-root\s*=", line)), _STORE_ROOT])
        path = resolve(tree, _SEMANAGE)
        if (entry := editor.get(path)) is not None and entry.is_file:
            rewrite(editor, path, data, store, writer=WRITER)
        else:
            editor.add_file(_SEMANAGE, store.add_bytes(data), writer=WRITER)
    return editor.build()
