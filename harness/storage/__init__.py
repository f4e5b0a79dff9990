"""The results store: its tables, its databases, what is kept in it and how two become one."""
