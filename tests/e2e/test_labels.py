"""The audit of labels in a whole compose, with a policy that has each kind of rule; selabel_lookup has the last word."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.e2e.listing import listing
from tests.e2e.test_lint import lint
from tests.e2e.tiny import REF, Site

pytestmark = pytest.mark.root
CONTEXTS = "usr/etc/selinux/tiny/contexts/files/file_contexts"
# What the compose's own script adds to the policy of tiny-policy, which has .subs_dist.
POLICY = r"""
cd /etc/selinux/tiny/contexts/files
context=system_u:object_r
printf '/usr/share/none(/.*)?\t<<none>>\n/usr/share/kind\t-d\t%s\n/usr/share/kind\t--\t%s\n/usr/share/kind/.*\t-l\t%s\n' \
    $context:directory_t:s0 $context:file_t:s0 $context:link_t:s0 >>file_contexts
printf '/usr/share/alias /usr/bin\n' >file_contexts.subs
printf '/usr/bin/id\t--\t%s\n/usr/share/none/not\t%s\n' $context:local_t:s0 $context:not_none_t:s0 >file_contexts.local
printf '/usr/share/users/[^/]+/.+\t%s\n' $context:user_home_t:s0 >file_contexts.homedirs
cd /usr/share
mkdir -p none kind users/me alias
echo x >none/a; echo x >none/not; echo x >kind/file; ln -s file kind/link; echo x >users/me/file; echo x >alias/program
"""
TYPES = {"d": 0o040000, "-": 0o100000, "l": 0o120000}
NONE = ["/proc", "/usr/share/none", "/usr/share/none/a"]


@pytest.fixture
def made(site: Site) -> Site:
    site.write_treefile(postprocess=[POLICY])
    return site


def test_every_label_beside_selabel_lookup(made: Site) -> None:
    result = made.path / "result.json"
    printed = made.compose(f"--write-composejson-to={result}")
    rows = listing(made, REF)
    counts = json.loads(result.read_text())["labels"]
    expected = {"policy": "tiny", "checked": len(rows), "equal": len(rows) - len(NONE), "inherited": len(NONE)}
    assert counts == {**expected, "unlabelled": 0, "differing": []}
    said = f"labels: {len(rows)} paths compared with the policy tiny: {len(rows) - 3} equal, 3 inherited, 0 differ"
    assert said in printed.splitlines()

    made.ostree("checkout", "--user-mode", "--subpath=/usr/etc", REF, str(made.path / "etc"))
    rules = made.path / CONTEXTS.removeprefix("usr/")
    none = []
    for path, row in rows.items():
        looked_up = path.replace("/usr/etc", "/etc", 1)
        done = subprocess.run(
            ["selabel_lookup", "-r", "-b", "file", "-f", rules, "-k", looked_up, "-t", str(TYPES[row.kind])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            none.append(path)
            assert row.label == rows[str(Path(path).parent)].label, path
        else:
            assert done.stdout.split(":")[3] == row.label, path
    assert sorted(none) == NONE
    chosen = {path: rows[f"/usr/{path}"].label for path in ("bin/id", "share/alias/program", "share/users/me/file")}
    assert list(chosen.values()) == ["local_t", "bin_t", "user_home_t"]
    kinds = [rows[f"/usr/share/{path}"].label for path in ("kind", "kind/file", "kind/link", "none/not")]
    assert kinds == ["directory_t", "usr_t", "link_t", "not_none_t"]
    done = lint(made, REF, f"--repo={made.repo}")
    assert "label]" not in done.stdout + done.stderr


def test_lint_of_a_commit_with_labels_of_another_policy(made: Site) -> None:
    made.compose()
    changed = made.path / "changed"
    rules = changed / f"{CONTEXTS}.local"
    rules.parent.mkdir(parents=True)
    rules.write_text("/usr/bin/id\t--\tsystem_u:object_r:other_t:s0\n")
    trees = [f"--tree=ref={REF}", f"--tree=dir={changed}"]
    made.ostree("commit", "--branch=relabelled", *trees, "--owner-uid=0", "--owner-gid=0")
    done = lint(made, "relabelled", f"--repo={made.repo}")
    assert done.status == 1
    errors = [line for line in done.stdout.splitlines() if line.endswith("[label]")]
    given = "but the policy says system_u:object_r:other_t:s0 [label]"
    assert f"error: /usr/bin/id: has the label system_u:object_r:local_t:s0, {given}" in errors
    # the directories and the file that were put over it
    assert "files without a label" in done.stdout
    assert "define labels of your own in the policy" in done.stderr


def test_lint_of_labels_without_a_policy(made: Site) -> None:
    made.compose()
    config = made.path / "changed/usr/etc/selinux/config"
    config.parent.mkdir(parents=True)
    config.write_text("SELINUXTYPE=absent\n")
    made.ostree("commit", "--branch=absent", f"--tree=ref={REF}", f"--tree=dir={made.path / 'changed'}")
    done = lint(made, "absent", f"--repo={made.repo}")
    assert done.status == 1
    said = "error: /usr/etc/selinux: labels cannot be checked: SELinux enabled, but no policy found in tree"
    assert said in done.stdout
