"""Makes the built-in demo model: draws its training pictures, trains it, scores it.

Not part of the engine: nothing in `diffusion_runtime` imports this package, and the engine image does not
carry it. It exists so that the committed weights in `models/demo` can be made again from nothing.
"""
