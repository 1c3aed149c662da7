"""A virtual serial port concentrator: the host end of VMware's telnet extension (option 232).

docs/vspc.md says how to run it. From the bytes up: `telnet` and `options` (telnet itself),
`session` (one connection's dialogue), `line` (one VM over all its connections), `registry` (all
VMs), and around these `loop`, `connection` and `server` (the I/O). `seam` is what a user of lines
implements; `sockets` is one such user. All are imported by name: relays use `seam` and no more.
"""
