"""What every other package of the bench needs: errors, provenance, methods by name, devices, locks."""
