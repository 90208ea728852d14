"""What several services need; never imports a service."""
