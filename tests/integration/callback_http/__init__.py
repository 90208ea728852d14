"""The HTTP side of the callback service over real sockets."""
