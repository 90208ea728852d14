"""Topics as code, the supervised producer and the partition consumer."""
