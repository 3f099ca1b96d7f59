"""The namespace of a mount: native objects now, the volume's own tree later."""
