"""`python -m lightspeed_azure` is the command `lightspeed-azure`."""

from lightspeed_azure.cli import main

if __name__ == "__main__":
    main()
