"""The paper methods, one package each; pure torch."""
