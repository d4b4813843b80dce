"""The short training that stands in for the full one: images of any folder as one array, and the proxy score of an
`Arch` trained on them at reduced width and resolution."""
