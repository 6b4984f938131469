"""The only door to PostgreSQL: the embedded server, connections, migrations, partitions, the slice writer, queries."""
