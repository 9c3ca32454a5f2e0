"""THE COMMANDS: `rsqlited` (`serve.py`) and `rsqlite` (`main.py`).

Options come from one table, `config.Settings`; `options.py` reads them from flags, environment and
file, `rqlited_flags.py` knows those of rqlite, `exits.py` the exit codes, `logs.py` the log lines.
"""
