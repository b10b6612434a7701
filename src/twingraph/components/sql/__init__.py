"""What `DatabaseQuery` stands on: statements and their values, pools of connections, and each kind of database."""
