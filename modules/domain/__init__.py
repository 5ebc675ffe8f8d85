"""The language of the project: values, rules about one thing, and the ports. Standard library only, no I/O."""
