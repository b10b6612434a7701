"""What stands behind `FileReader` and `FileWriter`: where files lie, how they are written, what is wrong with one."""
