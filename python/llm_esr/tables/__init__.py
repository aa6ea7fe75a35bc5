"""A user's tables as plain columns: formats, frames, values, conditions and the cleaning of rows."""
