"""RESP2 and RESP3: bytes from clients into commands, replies into bytes. No I/O.

`requests` parses what clients send, `replies` encodes what they get back, `errors` holds the refusals
that every other package raises. Nothing here knows what a command means.
"""
