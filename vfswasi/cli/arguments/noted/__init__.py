"""What is noted about a run of a program, and what it is told of time and chance."""
