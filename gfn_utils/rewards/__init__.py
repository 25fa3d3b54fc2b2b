"""What it pays, where that is data: tables of measurements with their data cards."""
