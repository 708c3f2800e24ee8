"""The embedded corpus: portraits in the public domain, made to speak by a synthesiser."""
