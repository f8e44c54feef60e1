"""The Bot API of the notifier's tests, as a process of its own: its address, then each message that it is sent, as lines of JSON."""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "notify"))

from botapi import BotApi

if __name__ == "__main__":
    api = BotApi()
    print(json.dumps({"url": api.url}), flush=True)
    told = 0
    while True:
        while told < len(api.messages):
            print(json.dumps(api.messages[told], default=str), flush=True)
            told += 1
        time.sleep(0.05)
