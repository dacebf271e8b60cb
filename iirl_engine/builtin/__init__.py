"""The strategies that come with the core, offered through the same hooks as everybody's."""
