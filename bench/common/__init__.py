"""What every room needs: errors, where results come from, methods by name, devices, locks."""
