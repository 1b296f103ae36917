"""What every exported form costs beside the plain detector, in one interleaved run."""
