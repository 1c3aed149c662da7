"""Is a boot image what its records say? Reads everything in it, writes nothing, needs no program.

The readers here are apart from what makes media: a reader that shared code with its writer would
find what the writer meant.
"""
