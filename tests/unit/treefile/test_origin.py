"""For each value of a flattened treefile, the file and line that gave it."""

from __future__ import annotations

from pathlib import Path

from compose.treefile.origin import origins


def test_origins(tmp_path: Path) -> None:
    (tmp_path / "top.yaml").write_text(
        "include: base.yaml\nref: x/${basearch}\npackages: [zsh, bash]\nedition: '2024'\n"
        "repo-packages:\n  - repo: r\n    packages: [p q]\nmetadata:\n  name: top\n"
    )
    (tmp_path / "base.yaml").write_text(
        "ref: base\npackages:\n  - bash\n  - vim\nunits: [u]\nmetadata: {name: b, other: 1}\n"
    )
    found = [
        f"{each.path}={each.value} {each.place}".replace(f"{tmp_path}/", "")
        for each in origins(str(tmp_path / "top.yaml"), basearch="x86_64")
    ]
    assert found == [
        "boot-location=modules top.yaml:4:1",
        "edition=2024 top.yaml:4:1",
        "metadata.name=top top.yaml:9:3",
        "metadata.other=1 base.yaml:6:21",
        "packages=bash top.yaml:3:17",
        "packages=vim base.yaml:4:5",
        "packages=zsh top.yaml:3:12",
        "ref=x/x86_64 top.yaml:2:1",
        "repo-packages[0].repo=r top.yaml:6:5",
        "repo-packages[0].packages[0]=p top.yaml:7:16",
        "repo-packages[0].packages[1]=q top.yaml:7:16",
        "tmp-is-dir=True top.yaml:4:1",
        "units[0]=u base.yaml:5:9",
    ]
