"""How the record is read: a database by its tables, a server by MLflow's client."""
