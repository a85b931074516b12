"""The simulated world: what a camera would see of a bench whose truth is known.

`optics` sends the beam through the grating to the screen, `lens` from the screen to the camera, `light` says how
bright it is there, `sensor` what a camera makes of it; `scene` puts them together. Nothing here is shared with
`analysis`, which would make the same mistake twice.
"""
