"""Lua, macros and query formats of scriptlets, all evaluated by librpm itself.

Macro expansion is librpm's only way to run a script from Python, and `%{lua:...}` cannot hold every script (unbalanced braces,
percent signs). So the macro holds a fixed loader, which reads the script from a descriptor and sends what the script prints to
standard output instead of the macro's expansion.
The loader sets up what librpm does for scriptlets (rpmlua.c, rpmscript.c of rpm 6.1): the table `arg` is {"<lua>", count}, the
chunk gets two tables, `rpm.next_file` exists for file triggers only, `RPM_INSTALL_PREFIX` lists the prefixes of a relocatable
package, and only an error counts as failure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from compose.process import Program

_PREFIX = re.compile(r"RPM_INSTALL_PREFIX\d+")
"""Environment variables that hold one prefix each; scripts.py sets them."""

_LOADER = """%{lua:
local file = assert(io.open("/proc/self/fd/" .. SCRIPT))
local source = file:read("a")
file:close()
rpm.next_file = nil
if TRIGGER then
  local names = assert(io.open("/proc/self/fd/0"))
  rpm.next_file = function() return names:read("l") end
end
local words = ARGUMENTS
_G.arg = words
_G.RPM_INSTALL_PREFIX = PREFIXES
local expand = print
print = function(...)
  local words = table.pack(...)
  for index = 1, words.n do
    words[index] = tostring(words[index])
  end
  io.stdout:write(table.concat(words, "\\t") .. "\\n")
end
-- some of librpm's macros are themselves Lua, and print their expansion
local expansion = rpm.expand
rpm.expand = function(...)
  local own = print
  print = expand
  local found = table.pack(pcall(expansion, ...))
  print = own
  if not found[1] then
    error(found[2], 0)
  end
  return table.unpack(found, 2, found.n)
end
local chunk, fault = load(source, "=" .. NAME)
local done = false
if chunk ~= nil then
  done, fault = pcall(chunk, {}, words)
end
io.stdout:flush()
print = expand
if done then
  return "done"
end
io.stderr:write(tostring(fault) .. "\\n")
return "failed"
}"""


def needed(program: Program) -> bool:
    """Does this program need librpm?"""
    return program.lua or program.expand or bool(program.header)


def prepare() -> None:
    """Load librpm and start its interpreter. Call before pivot_root: afterwards the target's librpm would be loaded."""
    import rpm

    rpm.expandMacro("%{lua: return ''}")


def configure(program: Program) -> None:
    """Replace the host's macros by those of the root's own rpm, if it has one, and add the program's."""
    import rpm

    # in a root without rpm, librpm complains about the missing rpmrc
    rpm.setVerbosity(rpm.RPMLOG_CRIT)
    rpm.reloadConfig()
    rpm.setVerbosity(rpm.RPMLOG_NOTICE)
    for macro, expansion in program.macros:
        rpm.addMacro(macro, expansion)


def text_of(program: Program) -> str:
    """The body with macros expanded (a scriptlet's -e), then its tags (-q), as in rpmScriptFromTag() of rpmscript.c."""
    import rpm

    body = program.body
    if program.expand:
        body = rpm.expandMacro(body)
    if program.header:
        body = rpm.hdr(program.header).format(body)
    return body


def run(program: Program, body: int) -> int:
    """Run a Lua program's body, read from descriptor `body`; return its exit status, 0 or 1.

    argv is (name, argument...). A program with stdin is a file trigger; stdin holds its paths, one per line.
    """
    import rpm

    name, *words = program.argv
    prefixes = [value for key, value in program.environment if _PREFIX.fullmatch(key)]
    loader = (
        _LOADER.replace("SCRIPT", str(body))
        .replace("TRIGGER", "true" if program.stdin else "false")
        .replace("ARGUMENTS", _table((_quoted(name), *map(_literal, words))))
        .replace("PREFIXES", _table(map(_quoted, prefixes)) if prefixes else "nil")
        .replace("NAME", _quoted(program.phase))
    )
    try:
        return 0 if rpm.expandMacro(loader) == "done" else 1
    except rpm.error as error:
        os.write(2, f"{error}\n".encode())
        return 1


def _table(items: Iterable[str]) -> str:
    return "{" + ", ".join(items) + "}"


def _literal(word: str) -> str:
    return word if word.isdigit() else _quoted(word)


def _quoted(text: str) -> str:
    """A Lua string literal in decimal escapes, free of percent signs and braces, which macro expansion would interpret."""
    return '"' + "".join(f"\\{byte:03d}" for byte in text.encode(errors="surrogateescape")) + '"'
