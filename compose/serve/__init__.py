"""A repository over HTTP, for clients that pull a preview: what `compose serve` and `compose watch --serve` do.

HTTP itself is http.server's. Here is what may be asked for (paths), what a request may ask of it (conditions), the server, and
who pulled what (pulls).
"""
