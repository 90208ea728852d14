"""The local system's pieces, without a broker or a database."""
