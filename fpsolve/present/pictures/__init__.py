"""What the figures are made of: views of the grid, sheets, layers, and one module per picture."""
