"""From the words of a command line to values; what is wrong with them is said in one line, with the right help page."""
