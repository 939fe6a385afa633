"""Peak memory of a command, in MiB: `python measure_memory.py COMMAND …`.

A small process starts it, because a program's peak counts what its parent held when it was started.
"""

import os
import subprocess
import sys

with subprocess.Popen(sys.argv[1:], stdout=sys.stderr) as process:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
print(usage.ru_maxrss / 1024)
sys.exit(process.returncode)
