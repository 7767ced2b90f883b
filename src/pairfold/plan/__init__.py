"""Planning: what is hoisted, how it is tiled. A plan is a value that says all the code generator needs, and prints itself."""
