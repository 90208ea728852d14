"""Tables, migrations, the writer of the projection and its queries."""
