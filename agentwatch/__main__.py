"""The program's entry. `python -m agentwatch` works everywhere, also where another program is called `agentwatch`."""

import gc


def main() -> None:
    """Import the commands, and be one."""
    gc.disable()  # what is imported stays: looking for garbage in it again and again costs a tenth of the start
    from agentwatch.cli.main import main as run  # noqa: PLC0415  # not before

    gc.enable()
    run()


if __name__ == "__main__":
    main()
