"""`python -m agentwatch`: works everywhere, also where another program is called `agentwatch`."""

from agentwatch.cli.main import main

main()
