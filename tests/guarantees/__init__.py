"""One file for each guarantee, against running services, a real broker and a real database."""
