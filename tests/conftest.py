"""What holds for all tests."""

import signal

from hypothesis import settings

# How long an example takes says what else the machine does.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# A shell that runs something in the background has it ignore Ctrl-C, `nohup` a hangup, and every process that a test starts inherits that.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
