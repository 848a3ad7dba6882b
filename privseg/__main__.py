"""``python -m privseg``: the same as the ``privseg`` command."""

from privseg.cli import main

if __name__ == "__main__":
    main()
