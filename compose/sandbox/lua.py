"""What librpm does for scriptlets, by librpm itself: Lua, macros, query formats.

librpm offers Python no way to run a script but macro expansion, and `%{lua:...}` cannot hold every script (unbalanced
braces, percent signs). So the macro holds a loader that never changes; the script itself comes through a descriptor,
and what it prints goes to standard output, not into the macro's expansion.
What librpm sets up for scriptlets is set up by the loader (rpmlua.c, rpmscript.c, seen with rpm 6.1): the table `arg` is
{"<lua>", count}, the chunk gets two tables, `rpm.next_file` is there for file triggers only, and only an error fails.
"""

from __future__ import annotations

import os

from compose.process import Program

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
local expand = print
print = function(...)
  local words = table.pack(...)
  for index = 1, words.n do
    words[index] = tostring(words[index])
  end
  io.stdout:write(table.concat(words, "\\t") .. "\\n")
end
-- some of librpm's macros are Lua themselves, and print what they expand to
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
    return program.lua or program.expand or bool(program.header)


def prepare() -> None:
    """Load librpm and start its interpreter. To be called before the root changes: later it would load the target's."""
    import rpm

    rpm.expandMacro("%{lua: return ''}")


def configure(program: Program) -> None:
    """Forget the macros of this machine; take those of the root's own rpm, if it has one, and the program's."""
    import rpm

    # a root without rpm has no rpmrc, and librpm says so
    rpm.setVerbosity(rpm.RPMLOG_CRIT)
    rpm.reloadConfig()
    rpm.setVerbosity(rpm.RPMLOG_NOTICE)
    for macro, expansion in program.macros:
        rpm.addMacro(macro, expansion)


def text_of(program: Program) -> str:
    """The body as it is to be run: -e of a scriptlet, then -q (rpmscript.c: rpmScriptFromTag)."""
    import rpm

    body = program.body
    if program.expand:
        body = rpm.expandMacro(body)
    if program.header:
        body = rpm.hdr(program.header).format(body)
    return body


def run(program: Program, body: int) -> int:
    """Run a Lua program's body, read from descriptor `body`; its exit status, 0 or 1.

    argv is (name, argument...); with stdin the program is a file trigger, whose paths stdin holds, one per line.
    """
    import rpm

    name, *words = program.argv
    loader = (
        _LOADER.replace("SCRIPT", str(body))
        .replace("TRIGGER", "true" if program.stdin else "false")
        .replace("ARGUMENTS", "{" + ", ".join((_quoted(name), *map(_literal, words))) + "}")
        .replace("NAME", _quoted(program.phase))
    )
    try:
        return 0 if rpm.expandMacro(loader) == "done" else 1
    except rpm.error as error:
        os.write(2, f"{error}\n".encode())
        return 1


def _literal(word: str) -> str:
    return word if word.isdigit() else _quoted(word)


def _quoted(text: str) -> str:
    """A Lua string literal without a percent sign or brace, which macro expansion would look at."""
    return '"' + "".join(f"\\{byte:03d}" for byte in text.encode(errors="surrogateescape")) + '"'
