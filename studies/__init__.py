"""studies: study files, the runner that carries them out, and the command `avsc-search`."""
