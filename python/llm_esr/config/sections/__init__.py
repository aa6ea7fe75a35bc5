"""The sections of the configuration, each of one stage."""
