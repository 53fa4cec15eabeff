"""Where the emulators listen."""

import errno
import socket


def listen(port: int) -> list[socket.socket]:
    """Return listening sockets on one port: 127.0.0.1, and ::1 where the machine has it.

    `localhost` may mean either; a stranger on ::1 with our port would be asked in our place.
    """
    for _ in range(20):
        first = socket.create_server(("127.0.0.1", port), backlog=512)
        taken = int(first.getsockname()[1])
        try:
            second = socket.create_server(("::1", taken), family=socket.AF_INET6, backlog=512)
        except OSError as error:
            if _is_absent(error):
                return [first]
            first.close()
            if port:
                raise
        else:
            return [first, second]
    raise OSError("no port is free on both 127.0.0.1 and ::1")


def _is_absent(error: OSError) -> bool:
    return error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT}
