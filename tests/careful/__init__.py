"""A plugin that passes every check: the text that careless plugins are made from."""
