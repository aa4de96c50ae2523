"""The subset of kickstart that treefiles may include: %packages sections and %include."""

from __future__ import annotations

import shlex

from compose.treefile.source import Located, Place, SourceFault


def parse_kickstart(data: bytes, file: str) -> Located:
    """Parse the packages, exclusions and includes of one kickstart file. A line in %packages is one package, spaces and all.

    Raises SourceFault for anything else in it.
    """
    packages: list[Located] = []
    excluded: list[Located] = []
    includes: list[Located] = []
    config: dict[str, Located] = {}
    inside = False
    for number, raw in enumerate(data.decode(errors="replace").splitlines(), 1):
        line = raw.partition("#")[0].strip()
        place = Place(file, number, 1)
        if not line:
            continue
        if "\0" in line:
            raise SourceFault(place, "not valid text: a NUL character")
        try:
            words = shlex.split(line) if line.startswith("%") else [line]
        except ValueError as error:
            raise SourceFault(place, f"{line} is not understood: {error}") from error
        if words[0] == "%include" and len(words) == 2:
            includes.append(Located(words[1], place))
        elif words[0] == "%packages" and not inside:
            inside = True
            for option in words[1:]:
                if option != "--exclude-weakdeps":
                    raise SourceFault(place, f"%packages {option} is not supported")
                config["recommends"] = Located(False, place)
        elif words[0] == "%end" and inside:
            inside = False
        elif inside and not line.startswith("%"):
            (excluded if line.startswith("-") else packages).append(Located(line.lstrip("-"), place))
        else:
            raise SourceFault(place, f"{line.split()[0]} is not supported; only %packages sections and %include are")
    if inside:
        raise SourceFault(Place(file, 1, 1), "%packages without %end")
    for key, rows in (("packages", packages), ("exclude-packages", excluded), ("include", includes)):
        if rows:
            config[key] = Located(rows, rows[0].place)
    return Located(config, Place(file, 1, 1))
