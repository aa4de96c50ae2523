"""Python processes of our own: how the interpreter is started, which costs less than half without what it does for others."""

from __future__ import annotations

import sys


def python(code: str, *arguments: str) -> list[str]:
    """argv of this interpreter, with this sys.path, for code that finds its arguments in sys.argv[1:].

    Nothing of the environment and no site module has a part in it: what they would say is in sys.path already. Bytecode is
    looked for where ours is.
    """
    cached = [] if sys.pycache_prefix is None else ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    own = 1 + len(arguments)
    begin = f"import sys; sys.path[:] = sys.argv[{own}:]; del sys.argv[{own}:]; "
    # names of files are UTF-8 whatever the locale
    return [sys.executable, "-I", "-S", "-X", "utf8", *cached, "-c", begin + code, *arguments, *sys.path]
