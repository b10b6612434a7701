"""One execution as a graph, and the forms in which it is shown or handed on: each module writes one."""
