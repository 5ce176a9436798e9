"""What a host offers and what a process uses of it: facts and the doctor."""
