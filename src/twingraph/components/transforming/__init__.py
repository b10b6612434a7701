"""What `DataTransform` is made of: how operations are written, and how they become one lazy query."""
