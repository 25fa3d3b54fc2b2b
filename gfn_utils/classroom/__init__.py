"""What only the notebooks need: claims and exercises, pictures, controls, and the playground."""
