"""Runs on the virtual host: `python3 clock.py RUNS WORD...` prints the seconds of each run as JSON.

The command is run once before, which does not count; its output is thrown away.
"""

import json
import subprocess
import sys
import time


def main(runs: int, command: list[str]) -> None:
    seconds = []
    for number in range(1 + runs):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number:
            seconds.append(round(time.perf_counter() - begin, 3))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
