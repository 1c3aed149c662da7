"""Give a chain to whoever wants it in another form: one disk, or a machine as a file or folder."""
