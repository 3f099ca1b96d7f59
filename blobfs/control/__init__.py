"""Messages and client of the control socket, where daemon and command line meet."""
