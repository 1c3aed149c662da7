"""The disk map: a chain as a picture for people. Values in, SVG or HTML out; reads nothing."""
