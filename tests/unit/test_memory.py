from __future__ import annotations

import pytest

from compose import memory

MB = 1 << 20


@pytest.fixture
def machine(tmp_path):
    """Write files below proc/ and cgroup/; what available() then says."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return memory.available(tmp_path / "proc", tmp_path / "cgroup")

    return write


MEMINFO = "MemTotal:       24000000 kB\nMemFree:  1000 kB\nMemAvailable:   2097152 kB\n"


def test_the_machine_alone(machine):
    assert machine() is None
    assert machine(proc__meminfo=MEMINFO) == 2048 * MB


def test_a_group_with_a_limit(machine):
    """Version 2: what page cache takes of it is free, and a group above may have less left."""
    found = machine(
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/ci/job\n",
        cgroup__ci__job__memory_DOT_max="max\n",
        cgroup__ci__job__memory_DOT_current=f"{900 * MB}\n",
        cgroup__ci__memory_DOT_max=f"{1024 * MB}\n",
        cgroup__ci__memory_DOT_current=f"{1000 * MB}\n",
        cgroup__ci__memory_DOT_stat=f"anon 5\ninactive_file {500 * MB}\nactive_file 7\n",
    )
    assert found == 524 * MB


def test_a_container_sees_its_group_as_the_root(machine):
    files = {"cgroup__memory_DOT_max": f"{512 * MB}", "cgroup__memory_DOT_current": f"{12 * MB}"}
    assert machine(proc__meminfo=MEMINFO, proc__self__cgroup="0::/\n", **files) == 500 * MB
    files["cgroup__memory_DOT_current"] = f"{600 * MB}"
    assert machine(**files) == 0


def test_version_1(machine):
    found = machine(
        proc__meminfo=MEMINFO,
        proc__self__cgroup="9:name=systemd:/\n5:cpu,memory:/box\n0::/\n",
        cgroup__memory__box__memory_DOT_limit_in_bytes=f"{300 * MB}",
        cgroup__memory__box__memory_DOT_usage_in_bytes=f"{200 * MB}",
        cgroup__memory__box__memory_DOT_stat=f"inactive_file 1\ntotal_inactive_file {50 * MB}\n",
    )
    assert found == 150 * MB
    assert machine(cgroup__memory__memory_DOT_limit_in_bytes="9223372036854771712") == 150 * MB


def test_a_group_whose_name_is_not_utf8(machine, tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_bytes(b"0::/\xff\n")
    assert machine(proc__meminfo=MEMINFO) == 2048 * MB


def test_this_machine_says_something():
    found = memory.available()
    assert found is not None
    assert found > MB


def test_the_name_of_a_group_is_any_text(machine):
    assert machine(proc__meminfo=MEMINFO, proc__self__cgroup="0::/a\u2028b\x85\n") == 2048 * MB
