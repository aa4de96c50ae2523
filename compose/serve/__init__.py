"""A preview repository over HTTP, for `compose serve` and `compose watch --serve`.

Built on http.server: which paths are served (paths), conditional and range requests (conditions), the server itself (server),
the refs it announces (offered), and a report of each pull (pulls).
"""
