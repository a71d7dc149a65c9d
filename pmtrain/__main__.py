"""`python -m pmtrain`."""

from pmtrain.cli import main

if __name__ == "__main__":  # loader workers import this file again under another name
    main()
