"""The threads that guests run on, the stack that they have, and the watchdog that looks at deadlines."""
