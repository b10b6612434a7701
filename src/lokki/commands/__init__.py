"""The commands of a flow file, a module each; only the one that is asked for is loaded."""
