"""Proofs of what `meshnode.placement` promises."""
