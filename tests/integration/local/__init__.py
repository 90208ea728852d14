"""The local system whole: on the session's broker and database, and as the command that starts its own."""
